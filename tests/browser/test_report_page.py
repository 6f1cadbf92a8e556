"""Pages in a real browser: no request, no overflow, both themes."""

import os
import shutil
from pathlib import Path

import pytest

from comparisons import comparison, row
from spectra import saved
from steppe_lab.analysis.spectrum import open_network, spectrum_of
from steppe_lab.reports.comparison.page import render
from steppe_lab.reports.spectrum import page as spectrum_page
from steppe_lab.runs.settings import SpectrumSettings

pytestmark = [pytest.mark.browser, pytest.mark.timeout(120)]

NAMES = ("sgd", "sam:rho=0.1", "lpf_sgd:gamma=0.002,micro_batches=4", "<b>&adam")
ARGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]


def chromium():
    named = os.environ.get("STEPPE_CHROMIUM")
    found = named or shutil.which("chromium") or "/usr/bin/chromium"
    return found if Path(found).exists() else None


@pytest.fixture(scope="module")
def browser():
    path = chromium()
    if path is None:
        reason = "no Chromium: set STEPPE_CHROMIUM to its path."
        if os.environ.get("STEPPE_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=ARGS)
        yield opened
        opened.close()


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


def test_all_pictures_are_drawn(visit, tmp_path):
    page = visit()
    widths = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(widths) == page.locator("figure").count() >= 2
    assert min(widths) > 0
    page.screenshot(path=tmp_path / "desktop.png", full_page=True)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(visit, tmp_path, scheme):
    page = visit(360, scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    boxes = page.eval_on_selector_all(
        ".scroll",
        "all => all.map(box => [box.scrollWidth > box.clientWidth, "
        "box.getBoundingClientRect().right, getComputedStyle(box).overflowX])",
    )
    assert any(wide for wide, *_ in boxes), "a wide table scrolls inside its own box"
    assert all(right <= 360 for _, right, _ in boxes)
    assert {overflow for *_, overflow in boxes} == {"auto"}
    page.screenshot(path=tmp_path / f"phone-{scheme}.png", full_page=True)


def test_a_dark_scheme_changes_page_and_pictures(visit, tmp_path):
    seen = []
    for scheme in ("light", "dark"):
        page = visit(scheme=scheme)
        seen.append(
            (
                page.evaluate("getComputedStyle(document.body).backgroundColor"),
                page.eval_on_selector("img", "image => image.currentSrc"),
            )
        )
        page.screenshot(path=tmp_path / f"{scheme}.png")
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
