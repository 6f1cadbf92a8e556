"""The page of attacks in a real browser: no request, no overflow, both themes."""

import pytest

from spectra import saved
from steppe_lab.analysis.attacking import attack_target, open_target
from steppe_lab.reports.attack.page import render
from steppe_lab.runs.attack_settings import AttackSettings

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    settings = AttackSettings(
        attacks=("fgsm", "fgm", "pgd:steps=2,restarts=2,step=0.01"),
        eps=("0", "2/255", "4/255", "8/255", "0.5"),
        samples=40,
    )
    target = open_target(saved(folder / "model.safetensors"), settings)
    done = attack_target(target, settings, folder)
    page = render(done, command="steppe attack " + "x" * 80, versions={})
    path = folder / "attack.html"
    path.write_text(page, encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 360])
def test_the_page_of_attacks_fits_and_asks_for_nothing(browser, address, width, scheme):
    size = {"width": width, "height": 800}
    context = browser.new_context(viewport=size, color_scheme=scheme)
    page, faults = context.new_page(), []
    page.on("console", lambda message: faults.append(message.text))
    page.on("requestfailed", lambda request: faults.append(request.url))
    page.goto(address)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    drawn = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert len(drawn) > 2  # a figure for each norm, and images
    assert min(drawn) > 0
    assert faults == []
    context.close()
