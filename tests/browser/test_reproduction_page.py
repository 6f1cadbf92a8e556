"""The page of an experiment in a real browser: on paper, on phones, without scripts."""

from pathlib import Path

import pytest

from steppe_lab.reports.reproduction.page import render
from steppe_lab.reproduction.claims import Request
from steppe_lab.reproduction.experiment import Experiment
from steppe_lab.reproduction.published import Cell, Published, Quantity, Scale
from steppe_lab.reproduction.results import ClaimResult, ExperimentResult, Row
from steppe_lab.reproduction.trained import TrainedClaim
from steppe_lab.reproduction.verdicts import Ours, exactly, verdict_on
from steppe_lab.statistics.intervals import mean_interval

pytestmark = [pytest.mark.slow, pytest.mark.browser, pytest.mark.timeout(120)]
CELLS = 14


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    published = Published(value=9.0, half_width=0.2, runs=5)
    claim = TrainedClaim(
        experiment="toy",
        name="table1",
        title="<b>errors & more</b> of networks",
        source="Table 1",
        quantity=Quantity(name="test_error", title="test error", units="%"),
        tolerance=0.5,
        reproduced="The error is at most half a point away.",
        base={"data": "digits"},
        sizes={"full": Scale(seeds=3)},
        cells=tuple(
            Cell(name=f"some_long_data/some_long_network_{n}/optimizer_{n}")
            for n in range(CELLS)
        ),
        caveats=("Made up.",),
    )
    rows = []
    for number, cell in enumerate(claim.cells):
        value = mean_interval([8.9 + number, 9.0 + number, 9.2 + number])
        ours = Ours(value=value, protocol=exactly(9.0) if number == 3 else None)
        verdict = verdict_on(published, ours, tolerance=0.5, comparable=True)
        row = Row(
            cell=cell,
            published=published,
            ours=ours,
            verdict=verdict,
            command=f"steppe train --model {'x' * 90} --seed {number}",
        )
        rows.append(row)
    experiment = Experiment(name="toy", title="A toy", source="Me", claims=(claim,))
    result = ExperimentResult(
        experiment=experiment,
        request=Request(),
        claims=(ClaimResult(claim=claim, rows=tuple(rows)),),
    )
    path = tmp_path_factory.mktemp("page") / "toy.html"
    path.write_text(render(result, command="steppe reproduce toy", versions={}))
    return path.as_uri()


@pytest.mark.parametrize(
    ("width", "scheme"),
    [pytest.param(1280, "light", marks=pytest.mark.slow), (390, "dark")],
)
def test_nothing_is_wider_than_the_page_and_names_leave_room(
    browser, address, width, scheme
):
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme
    )
    faults = []
    page = context.new_page()
    page.on("console", lambda m: m.type == "error" and faults.append(m.text))
    page.on("request", lambda r: r.url.startswith("http") and faults.append(r.url))
    page.goto(address)
    page.evaluate("for (const d of document.querySelectorAll('details')) d.open = true")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = page.locator("th[scope=row]")
    assert names.count() == CELLS
    assert 100 < names.first.bounding_box()["width"] < 0.5 * width
    assert names.first.bounding_box()["height"] < 120
    assert page.locator("h2", has_text="<b>errors & more</b>").is_visible()
    assert page.locator("figure img").evaluate("image => image.naturalWidth") > 300
    with page.expect_download() as download:
        page.get_by_role("link", name="Numbers as CSV").click()
    text = Path(download.value.path()).read_text()
    assert len(text.splitlines()) == CELLS + 1
    assert faults == []
    context.close()
