"""The page of surfaces in a real browser: it turns, answers and asks for nothing."""

import dataclasses
import json
import math
import re
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import torch

import steppe
from steppe.errors import SettingError
from steppe.surfaces import Surface, Trajectory, Values

browser_test = pytest.mark.browser
pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

X = np.linspace(-1, 1, 21)
NAMES = ("SGD", "</script><b>SAM")


def plane(factor, **fields):
    x, y = np.meshgrid(X, X[::2])
    loss = torch.from_numpy(factor * (0.01 + x**2 + 4 * y**2))
    return Surface(
        coordinates=(tuple(X), tuple(X[::2])),
        loss=loss,
        stderr=0.1 * loss,
        samples=500,
        axes=("norms of the filters",) * 2,
        details={"batch_norm": "freeze"},
        **fields,
    )


def surfaces():
    accuracy = Values(values=torch.full((11, 21), 0.5), units="%")
    path = Trajectory(
        coordinates=torch.tensor([[0.9, 0.8], [2.0, 0.0], [0.0, 0.0]]),
        residual=torch.tensor([1.0, 0.5, 0.0]),
        relative_residual=torch.tensor([0.8, 0.4, 0.0]),
        loss=torch.tensor([4.0, 2.0, 0.01]),
    )
    trace = torch.full((11, 21), math.nan)
    trace[::5, ::10] = torch.arange(9.0).reshape(3, 3)
    beside = {"accuracy": accuracy, "trace": Values(values=trace)}
    first = plane(1.0, quantities=beside).with_path(path)
    second = plane(3.0, quantities=beside)
    second.loss[0, 0], second.loss[0, 1] = math.nan, math.inf
    return dict(zip(NAMES, (first, second)))


@pytest.fixture(scope="module")
def page_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "surface.html"
    return steppe.surface_html(surfaces(), path, written=date(2026, 1, 2))


def test_the_page_is_small_and_holds_all_it_needs(page_file):
    text = page_file.read_text()
    assert len(text.encode()) < 6_000_000
    policy = re.search('Content-Security-Policy" content="(.*?)"', text)[1]
    assert policy.startswith("default-src 'none'")
    assert "unsafe-eval" not in policy
    assert len(re.findall("'sha256-", policy)) == 3


def test_the_page_is_the_same_each_time(page_file, tmp_path):
    again = steppe.surface_html(
        surfaces(),
        tmp_path / "again.html",
        written=date(2026, 1, 2),
        command=f"steppe.surface_html(surface, {str(page_file)!r})",
    )
    assert again.read_bytes() == page_file.read_bytes()


def test_numbers_that_json_has_no_name_for_are_null(page_file):
    text = page_file.read_text()
    (numbers,) = re.findall('id="numbers">(.*?)</script>', text)
    record = json.loads(numbers)
    second = record["surfaces"][1]
    assert second["name"] == NAMES[1]
    assert second["values"]["loss"][0][:3] == [None, None, pytest.approx(13.95)]
    names = [quantity["name"] for quantity in record["quantities"]]
    assert names == ["loss", "stderr", "rise", "accuracy", "trace"]
    assert second["grids"] == {"trace": [[-1, 0, 1], [-1, 0, 1]]}
    assert second["values"]["trace"] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert record["quantities"][0]["log"]
    assert record["quantities"][0]["high"] == pytest.approx(15.03, rel=1e-3)
    assert record["surfaces"][0]["paths"][0]["below"][1] is None  # off the plane


def test_other_than_planes_and_a_missing_plotly_get_one_sentence(tmp_path, monkeypatch):
    line = Surface(
        coordinates=((0.0, 1.0),), loss=torch.ones(2), stderr=torch.ones(2), samples=1
    )
    with pytest.raises(SettingError, match="surface_html needs a surface of two axes"):
        steppe.surface_html(line, tmp_path / "line.html")

    def missing(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("importlib.resources.files", missing)
    with pytest.raises(SettingError, match=r"needs plotly, which is not .*landscapes"):
        steppe.surface_html(plane(1.0), tmp_path / "plane.html")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def visit(browser, page_file):
    """Opens the page; fails on errors and on requests."""
    contexts, faults, address = [], [], page_file.as_uri()

    def seen(request):
        own = request.url == address or request.url.startswith(("data:", "blob:"))
        if not own:
            faults.append(request.url)

    def open_page(width=1280, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: m.type == "error" and faults.append(m.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", seen)
        page.goto(address)
        page.wait_for_selector("#flat .contour")
        page.wait_for_selector("#solid canvas")
        page.locator("#stage").scroll_into_view_if_needed()
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def middle(page, figure, share=0.45):
    box = page.locator(figure).bounding_box()
    return box["x"] + share * box["width"], box["y"] + share * box["height"]


def eye(page):
    return page.evaluate(
        "document.getElementById('solid')._fullLayout.scene.camera.eye"
    )


def heights(page):
    layout = "document.getElementById('solid')._fullLayout.scene.zaxis.range"
    return page.evaluate(f"Array.from({layout})")


@browser_test
@pytest.mark.slow
def test_the_surface_turns_by_pointer_and_by_button(visit):
    page = visit()
    start = eye(page)
    x, y = middle(page, "#solid")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 90, y + 10, steps=6)
    page.mouse.up()
    page.wait_for_timeout(300)
    dragged = eye(page)
    assert dragged != start
    page.get_by_role("button", name="Turn left").press("Enter")
    page.wait_for_timeout(200)
    turned = eye(page)
    assert math.hypot(turned["x"], turned["y"]) == pytest.approx(
        math.hypot(dragged["x"], dragged["y"])
    )
    assert turned["x"] != pytest.approx(dragged["x"])
    page.select_option("#network", "1")  # the angle stays for comparisons
    page.wait_for_timeout(200)
    assert eye(page)["x"] == pytest.approx(turned["x"])


@browser_test
@pytest.mark.parametrize(
    ("figure", "share"),
    [("#flat", 0.3), pytest.param("#solid", 0.4, marks=pytest.mark.slow)],
)
def test_the_pointer_shows_the_value_and_its_error(visit, figure, share):
    page = visit()
    x, y = middle(page, figure, share)
    text = page.locator(f"{figure} .hovertext").first
    for step in range(20):  # a surface answers once it has been drawn
        page.mouse.move(x + step, y)
        page.wait_for_timeout(300)
        if text.is_visible():
            break
    assert re.search(r"loss [0-9.]+ ± [0-9.]+\s*x -?[0-9.]+, y", text.text_content())


@browser_test
@pytest.mark.slow
def test_the_switch_makes_the_axis_linear_and_back(visit):
    page = visit()
    low, high = heights(page)
    assert (low, high) == pytest.approx((-2, math.log10(15.03)), abs=1e-3)
    page.uncheck("#log")
    page.wait_for_timeout(200)
    assert heights(page) == pytest.approx([0.01, 15.03], rel=1e-3)
    page.check("#log")
    page.wait_for_timeout(200)
    assert heights(page) == pytest.approx([low, high])


@browser_test
@pytest.mark.slow
def test_networks_share_the_scale_and_quantities_have_their_own(visit):
    page = visit()
    before = heights(page)
    page.select_option("#network", "1")
    page.wait_for_timeout(200)
    assert heights(page) == before
    assert "2 points not finite" in page.locator("#recipe").text_content()
    page.select_option("#quantity", label="accuracy (%)")
    page.wait_for_timeout(200)
    low, high = heights(page)
    assert low < 0.5 < high
    assert not page.is_checked("#log")
    page.select_option("#quantity", label="trace")  # on a grid of three by three
    page.wait_for_timeout(200)
    assert heights(page) == [0, 8]
    drawn = "document.getElementById('flat').data[0].x.length"
    assert page.evaluate(drawn) == 3


@browser_test
@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.slow), 390])
def test_the_page_fits_and_its_figures_have_room(visit, width):
    page = visit(width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for figure in ("#solid", "#flat"):
        box = page.locator(f"{figure} .main-svg").first.bounding_box()
        assert 300 <= box["width"] <= width
        assert box["x"] >= 0


@browser_test
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.slow
def test_axes_of_one_unit_share_it_and_numbers_are_round(visit, width):
    page = visit(width)
    layout = "document.getElementById('flat')._fullLayout"
    sides = [page.evaluate(f"{layout}.{axis}._length") for axis in ("xaxis", "yaxis")]
    assert sides[0] == pytest.approx(sides[1], rel=0.01)
    page.uncheck("#log")
    page.wait_for_timeout(200)
    ticks = page.evaluate("document.getElementById('flat').data[0].colorbar.ticktext")
    assert [float(text) for text in ticks] == [5, 10, 15]


@browser_test
@pytest.mark.slow
def test_the_lowest_loss_stands_above_the_base_point(visit):
    page = visit()
    page.select_option("#network", "0")
    boxes = [
        page.locator("#flat .scatterlayer .point").nth(place).bounding_box()
        for place in (-2, -1)
    ]
    middles = [box["y"] + box["height"] / 2 for box in boxes]
    assert middles[1] + 6 < middles[0]


@browser_test
@pytest.mark.slow
def test_figures_follow_the_theme(visit):
    page = visit()
    ink = "document.getElementById('flat')._fullLayout.font.color"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    page.wait_for_timeout(300)
    assert page.evaluate(ink) != light


@browser_test
@pytest.mark.slow
def test_a_figure_is_saved(visit):
    page = visit()
    with page.expect_download() as download:
        page.locator("#flat [data-title^=Download]").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


@browser_test
def test_without_scripts_there_are_pictures(browser, page_file):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(page_file.as_uri())
    assert not page.locator("#stage").is_visible()
    assert page.locator("noscript p").is_visible()
    widths = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(widths) == 2
    assert min(widths) > 300
    context.close()


def test_one_surface_needs_no_list_of_networks(tmp_path):
    path = steppe.surface_html(plane(1.0), tmp_path / "a" / "one.html", title="A & B")
    text = path.read_text()
    assert 'id="network"' not in text
    assert "<h1>A &amp; B</h1>" in text


def test_every_point_may_be_lost(tmp_path):
    lost = dataclasses.replace(plane(1.0), loss=torch.full((11, 21), math.nan))
    assert (
        "No value is finite."
        in steppe.surface_html(lost, tmp_path / "lost.html").read_text()
    )


@browser_test
@pytest.mark.slow
def test_the_pointer_says_no_more_than_is_known(browser, tmp_path):
    unknown = torch.full((2,), math.nan, dtype=torch.float64)
    path = Trajectory(
        coordinates=torch.tensor([[0.5, 0.5], [0.0, 0.0]]),
        residual=unknown,
        relative_residual=unknown,
    )
    first = plane(1.0).with_path(path)
    first.loss[0, 0] = math.nan
    computed = torch.ones(11, 21, dtype=torch.bool)
    computed[0, :2] = False
    partial = dataclasses.replace(first, computed=computed)
    file = steppe.surface_html(partial, tmp_path / "partial.html")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_function("window.Plotly && document.querySelector('#flat').data")
    map_of, *others = page.evaluate("document.querySelector('#flat').data")
    assert map_of["text"][0][0].startswith("loss not evaluated yet<br>x")
    assert "<br>interpolated<br>x" in map_of["text"][0][1]
    assert "interpolated" not in map_of["text"][1][1]
    (words,) = (each["text"] for each in others if each.get("name") == "trajectory")
    assert words == ["trajectory, checkpoint 0", "trajectory, checkpoint 1"]
    page.close()
