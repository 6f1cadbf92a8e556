"""The page of a study in a real browser: it draws, answers and asks for nothing."""

import re
from pathlib import Path

import pytest

from steppe_lab.reports.study.page import render
from study_reports import study_table, summary

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    table = study_table(60, 8)
    first = summary(table)
    second = summary(study_table(24, 1, name="<b>second & last"))
    path = tmp_path_factory.mktemp("page") / "study.html"
    page = render(
        [first, second], command="steppe study report " + "x" * 80, versions={}
    )
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.fixture
def visit(browser, address):
    """Opens the page; fails on anything the browser complains of or asks for."""
    contexts, faults = [], []

    def seen(request):
        own = request.url == address or request.url.startswith("data:")
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
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


COLOURS = """() => {
  const canvas = document.querySelector("canvas");
  const pen = canvas.getContext("2d");
  const pixels = pen.getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = {};
  for (let i = 0; i < pixels.length; i += 4)
    if (pixels[i + 3] > 180) {
      const key = [pixels[i], pixels[i + 1], pixels[i + 2]].join();
      seen[key] = (seen[key] || 0) + 1;
    }
  return Object.entries(seen).sort((a, b) => b[1] - a[1]).slice(0, 12).map(e => e[0]);
}"""


@pytest.mark.parametrize(
    ("width", "scheme"),
    [
        pytest.param(1280, "light", marks=pytest.mark.slow),
        (390, "dark"),
    ],
)
def test_nothing_is_wider_than_the_page(visit, width, scheme):
    page = visit(width, scheme)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    page.wait_for_timeout(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("canvas").first.bounding_box()
    assert 250 < box["width"] <= width
    assert page.evaluate(COLOURS)  # something is drawn


@pytest.mark.parametrize(
    "scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)]
)
def test_the_scatter_takes_the_colours_of_the_factor_that_is_chosen(visit, scheme):
    page = visit(scheme=scheme)
    colour = page.locator("[data-part=colour]").first
    seen = []
    for label in ("optimizer", "label_noise", "nothing"):
        colour.select_option(label=label)
        seen.append(set(page.evaluate(COLOURS)))
    assert seen[0] != seen[1] != seen[2]
    assert page.locator(".legend").first.locator("button").count() == 0
    colour.select_option(label="optimizer")
    levels = page.locator(".legend").first.locator("button")
    assert levels.all_inner_texts() == ["sam", "sgd"]
    levels.first.click()
    about = page.locator("[data-part=about]").first
    assert about.inner_text() == "30 of 60 networks."
    assert page.locator(".legend button").first.get_attribute("aria-pressed") == "false"


@pytest.mark.slow
def test_another_measure_and_another_scale_are_drawn(visit):
    page = visit()
    first = page.evaluate(COLOURS + "")
    picture = "document.querySelector('canvas').toDataURL()"
    before = page.evaluate(picture)
    page.locator("[data-part=measure]").first.select_option(label="measure_7")
    other = page.evaluate(picture)
    page.locator("[data-part=scale]").first.select_option("minmax")
    scaled = page.evaluate(picture)
    assert len({before, other, scaled}) == 3
    assert first


@pytest.mark.slow
def test_the_pointer_names_the_network(visit):
    page = visit()
    page.locator("canvas").first.scroll_into_view_if_needed()
    box = page.locator("canvas").first.bounding_box()
    tip = page.locator("[data-part=tip]").first
    for step in range(200):
        x = box["x"] + box["width"] * (0.1 + 0.8 * (step % 20) / 20)
        page.mouse.move(x, box["y"] + box["height"] * (0.1 + 0.8 * (step // 20) / 10))
        if tip.is_visible():
            break
    assert re.search(
        r"trial \d{4}\nmeasure_0 .*, gap .*\nlabel_noise ", tip.inner_text()
    )


@pytest.mark.slow
def test_what_the_page_holds_is_saved(visit):
    page = visit()
    for link, start in (
        ("Table as CSV", b"trial,run,seed"),
        ("Statistics as JSON", b'{"name": "noise"'),
        ("Correlations as LaTeX", b"\\begin{tabular}"),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=link).first.click()
        assert Path(download.value.path()).read_bytes().startswith(start)
    with page.expect_download() as download:
        page.locator("[data-part=save]").first.click()
    assert download.value.suggested_filename == "measure-0.png"
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


def test_without_scripts_there_are_pictures_and_tables(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert not page.locator(".stage").first.is_visible()
    assert page.locator("noscript p").first.is_visible()
    widths = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(widths) > 4
    assert min(widths) > 300
    assert page.locator("h2", has_text="<b>second & last").is_visible()
    context.close()
