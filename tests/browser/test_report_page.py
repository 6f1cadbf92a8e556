"""Pages in a real browser: no request, no overflow, both themes."""

import base64
import re
from pathlib import Path

import pytest

from comparisons import comparison, row
from spectra import saved
from steppe_lab.analysis.spectrum import open_network, spectrum_of
from steppe_lab.reports.comparison.page import render
from steppe_lab.reports.spectrum import page as spectrum_page
from steppe_lab.runs.settings import SpectrumSettings

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(120)]

NAMES = ("sgd", "sam:rho=0.1", "lpf_sgd:gamma=0.002,micro_batches=4", "<b>&adam")


@pytest.fixture(scope="module", params=["comparison", "spectrum"])
def address(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    path = folder / f"{request.param}.html"
    page = compared() if request.param == "comparison" else spectrum(folder)
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


def compared():
    rows = [row(name, seed, error=0.1 + seed / 50) for name in NAMES for seed in (0, 1)]
    made = comparison(*rows, failures=("sgd, seed 2: out of memory",), seeds=3)
    return render(
        made, command="steppe compare " + "x" * 80, versions={"steppe": "0.1.0"}
    )


def spectrum(folder):
    settings = SpectrumSettings(steps=10)
    network = open_network(saved(folder / "model.safetensors"), settings)
    found = spectrum_of(network, settings)
    return spectrum_page.render(
        found, command="steppe spectrum " + "x" * 80, versions={"steppe": "0.1.0"}
    )


@pytest.fixture
def visit(browser, address):
    """Opens the page; fails on anything the browser complains of or asks for."""
    contexts, faults = [], []

    def open_page(width=1200, scheme="light"):
        context = browser.new_context(
            viewport={"width": width, "height": 800}, color_scheme=scheme
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: faults.append(message.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("requestfailed", lambda request: faults.append(request.url))
        page.on(
            "request",
            lambda request: (
                request.url == address
                or request.url.startswith("data:")
                or faults.append(request.url)
            ),
        )
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert faults == []


def test_all_pictures_are_drawn(visit):
    page = visit()
    widths = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(widths) == page.locator("figure").count() >= 2
    assert min(widths) > 0


WIDTHS = (1280, pytest.param(390, marks=pytest.mark.slow), 360)
OPEN = "for (const d of document.querySelectorAll('details')) d.open = true"


@pytest.mark.parametrize("width", WIDTHS)
def test_no_table_is_cut_without_a_hint(visit, width):
    page = visit(width)
    page.evaluate(OPEN)
    page.wait_for_timeout(50)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = page.eval_on_selector_all(
        ".scroll",
        """all => all.map(box => {
          const hint = box.parentElement.querySelector(".more");
          const shade = getComputedStyle(box.parentElement, "::after");
          return [box.scrollWidth > box.clientWidth + 1, hint.offsetHeight > 0,
                  shade.content !== "none", getComputedStyle(box).overflowX,
                  box.getBoundingClientRect().right];
        })""",
    )
    assert len(boxes) >= 4
    for cut, hint, shade, overflow, right in boxes:
        assert (hint, shade) == (cut, cut)
        assert (overflow, right <= width) == ("auto", True)


def test_the_shade_of_a_cut_table_goes_when_its_end_is_seen(visit):
    page = visit(390)
    page.evaluate(OPEN)
    page.wait_for_timeout(50)
    if not page.locator(".cut").count():
        return  # tables of the spectrum turn into cards that fit
    page.evaluate("document.querySelector('.cut .scroll').scrollLeft = 1e6")
    page.wait_for_timeout(50)
    seen = "getComputedStyle(document.querySelector('.cut'), '::after').content"
    assert page.evaluate(seen) == "none"


def test_tables_turn_into_cards_on_a_phone_and_say_of_what_each_cell_is(visit):
    page = visit(390)
    page.evaluate(OPEN)
    cells = page.eval_on_selector_all(
        ".cards td[data-head]",
        """all => all.map(td => [td.getBoundingClientRect().right,
             getComputedStyle(td, '::before').content.length])""",
    )
    assert len(cells) > 10
    assert all(right <= 390 and letters > 2 for right, letters in cells)


def test_captions_are_as_wide_as_the_page_allows(visit):
    page = visit(1280)
    page.evaluate(OPEN)
    widths = page.eval_on_selector_all(
        "caption", "all => all.map(c => c.getBoundingClientRect().width)"
    )
    assert min(widths) > 700


@pytest.mark.parametrize("width", [pytest.param(1280, marks=pytest.mark.slow), 390])
def test_no_two_labels_of_a_picture_overlap(visit, browser, width):
    pictures = visit(width).eval_on_selector_all(
        "img", "all => all.map(i => [i.src, i.getBoundingClientRect().width])"
    )
    drawing = browser.new_page()
    for address, shown in pictures:
        svg = base64.b64decode(address.partition("base64,")[2]).decode()
        drawing.set_content(f'<div style="width:{shown}px">{svg}</div>')
        assert drawing.evaluate(OVERLAPS) == []
    drawing.close()


@pytest.mark.parametrize(
    "scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)]
)
def test_a_button_saves_a_picture_and_is_reached_by_keyboard(visit, scheme):
    page = visit(scheme=scheme)
    button = page.get_by_role("button", name="Save as PNG").first
    button.focus()
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    content = Path(download.value.path()).read_bytes()
    assert content.startswith(b"\x89PNG")
    assert download.value.suggested_filename.endswith(".png")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as SVG").first.click()
    assert b"<svg" in Path(download.value.path()).read_bytes()


def test_without_the_script_pictures_and_rows_are_saved_by_links(browser, address):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address)
    assert page.locator("button").count() == 0
    for link in ("Save as SVG", re.compile("as (CSV|JSON)")):
        with page.expect_download() as download:
            page.get_by_role("link", name=link).first.click()
        assert Path(download.value.path()).stat().st_size > 100
    context.close()


def test_paper_shows_what_is_folded_whole_and_no_buttons(visit):
    page = visit(794)  # A4
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    assert not page.get_by_role("button", name="Save as PNG").first.is_visible()
    assert page.locator(".more:visible").count() == 0
    widths = page.eval_on_selector_all("table", "all => all.map(t => t.offsetWidth)")
    assert max(widths) <= 794


def test_a_dark_scheme_changes_page_and_pictures(visit):
    seen = []
    for scheme in ("light", "dark"):
        page = visit(scheme=scheme)
        seen.append(
            (
                page.evaluate("getComputedStyle(document.body).backgroundColor"),
                page.eval_on_selector("img", "image => image.currentSrc"),
            )
        )
    (light_page, light_picture), (dark_page, dark_picture) = seen
    assert light_page != dark_page
    assert light_picture != dark_picture


def test_texts_have_contrast_in_both_themes(visit):
    for scheme in ("light", "dark"):
        page = visit(scheme=scheme)
        assert page.evaluate(CONTRASTS) >= 4.5


def test_tables_are_reached_by_keyboard(visit):
    page = visit()
    assert page.eval_on_selector_all(
        ".scroll", "all => all.every(e => e.tabIndex === 0)"
    )


OVERLAPS = """() => {
  const labels = [...document.querySelectorAll(
    "[id^=xtick_] > [id^=text_], [id^=ytick_] > [id^=text_]")];
  const boxes = labels.map(g => g.getBoundingClientRect()).filter(b => b.width);
  const overlaps = [];
  boxes.forEach((a, i) => boxes.slice(i + 1).forEach(b => {
    if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom)
      overlaps.push([a.left, a.top, b.left, b.top]);
  }));
  return boxes.length < 3 ? ["no labels"] : overlaps;
}"""
CONTRASTS = """() => {
  const bright = text => {
    const [r, g, b] = text.match(/[0-9.]+/g).slice(0, 3).map(v => {
      const c = v / 255;
      return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (!colour.startsWith("rgba(0, 0, 0, 0")) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const texts = [...document.body.querySelectorAll("*")].filter(
    e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()));
  return Math.min(...texts.map(e => {
    const a = bright(getComputedStyle(e).color), b = bright(behind(e));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }));
}"""
