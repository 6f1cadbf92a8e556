"""`steppe reproduce`: published numbers beside ours, on a toy experiment."""

import csv
import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import in_process
from steppe_lab import experiments
from steppe_lab.cli import main
from steppe_lab.cli.verbs import reproduce
from steppe_lab.reports.reproduction.numbers import Places, interval_text
from steppe_lab.reports.reproduction.record import result_csv, result_record
from steppe_lab.reports.reproduction.sentences import cost_sentences, remarks
from steppe_lab.reports.reproduction.tables import result_table
from steppe_lab.reproduction.claims import Request
from steppe_lab.reproduction.costs import cost_of, total_of
from steppe_lab.reproduction.published import Published, Quantity
from steppe_lab.reproduction.results import (
    ClaimResult,
    ExperimentResult,
    Row,
    results_of,
)
from steppe_lab.reproduction.verdicts import Ours
from steppe_lab.statistics.intervals import Interval, mean_interval
from steppe_lab.store.store import Store
from steppe_lab.studies.costs import published_samples
from steppe_lab.studies.expansion import recipe_of_fields

SUPPORT = Path(__file__).parents[1] / "support" / "toy_experiments"
FOUR = ["one", "two", "three", "four"]  # cells of the claim that reads a file
PUBLISH = "steppe_lab.reports.reproduction.report.publish"


@pytest.fixture(autouse=True)
def toy(monkeypatch):
    """An experiment "toy", whose runs are done in this process."""
    path = [*experiments.__path__, str(SUPPORT)]
    monkeypatch.setattr(experiments, "__path__", path)
    monkeypatch.setattr(reproduce, "start_server", lambda _: None)
    monkeypatch.setattr("steppe_lab.execution.local.run_local", in_process.run_local)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def no_page(monkeypatch):
    """Pictures of pages would take most of the time."""
    monkeypatch.setattr(PUBLISH, lambda *_: None)


@pytest.fixture
def command(tmp_path, capsys):
    """Calls the command on one store; its exit code, output and errors."""
    data = tmp_path / "data"
    data.mkdir()
    numbers = {"one": 1.0, "two": 2.0, "three": 3.5}
    (data / "numbers.json").write_text(json.dumps(numbers))
    (data / "wide.txt").write_text("33.5")
    places = ["--out", str(tmp_path / "runs"), "--data-dir", str(data)]

    def call(*words):
        code = main(["reproduce", "toy", *words, *places])
        said = capsys.readouterr()
        return code, said.out, said.err

    call.data, call.runs = data, tmp_path / "runs"
    return call


def rows_of(text, claim):
    record = json.loads(text)["claims"][claim]
    return {row["cell"]: row for row in record["rows"]}


@pytest.mark.usefixtures("no_page")
def test_numbers_of_files_have_their_verdicts_at_every_scale(command):
    for scale in ("smoke", "full"):
        code, text, _ = command("--claim", "read", "--scale", scale, "--json")
        rows = rows_of(text, "read")
        assert code == 0
        assert {name: row["verdict"] for name, row in rows.items()} == {
            "one": "reproduced",
            "two": "published protocol differs",
            "three": "not reproduced",
            "four": "no published number",
        }
        assert rows["two"]["ours"]["mean"] == 0
        assert rows["two"]["ours_by_published_protocol"]["mean"] == 2
        assert rows["one"]["command"] == "steppe evaluate one.pt"


@pytest.mark.parametrize("cells", [(), ("--cell", "two")])
def test_numbers_of_files_are_computed_once_for_table_and_page(
    command, monkeypatch, cells
):
    pages, calls = [], []

    def check(folder):
        calls.append(folder)
        return toy_checked(folder)

    toy = experiments.find_experiment("toy")
    claim = toy.claim("read")
    toy_checked = claim.check
    monkeypatch.setitem(claim.__dict__, "check", check)
    monkeypatch.setattr(PUBLISH, lambda result, *_: pages.append(result))
    code, text, _ = command("--claim", "read", *cells, "--scale", "smoke", "--json")
    assert (code, len(calls)) == (0, 1)
    assert list(rows_of(text, "read")) == (["two"] if cells else FOUR)
    (whole,) = (each for each in pages[0].claims if each.claim.name == "read")
    assert [row.cell.name for row in whole.rows] == FOUR


@pytest.mark.usefixtures("no_page")
def test_trainings_are_compared_at_the_published_size_alone(command):
    code, text, _ = command("--claim", "errors", "--scale", "smoke", "--json")
    smoke = rows_of(text, "errors")
    assert code == 0
    _, shown, _ = command("--claim", "errors", "--scale", "smoke")
    assert "Of 2 cells: 2 run, but not compared at this scale." in shown
    assert list(smoke) == ["narrow/sgd", "narrow/sam"]
    assert {row["verdict"] for row in smoke.values()} == {"not run at this scale"}
    assert smoke["narrow/sgd"]["ours"]["runs"] == 1
    code, text, _ = command("--claim", "errors", "--json")
    full = rows_of(text, "errors")
    assert {row["verdict"] for row in full.values()} == {"reproduced"}
    assert [row["ours"]["runs"] for row in full.values()] == [2, 2, 2]
    assert full["wide/sgd"]["published"] == 33.5
    assert json.loads(text)["verdicts"] == {"reproduced": 3}


@pytest.mark.usefixtures("no_page")
def test_one_seed_is_never_enough_for_a_verdict(command):
    _, text, _ = command("--claim", "errors", "--seeds", "1", "--json")
    verdicts = {row["verdict"] for row in rows_of(text, "errors").values()}
    assert verdicts == {"within noise"}


@pytest.mark.usefixtures("no_page")
def test_a_claim_without_its_data_does_not_stop_the_others(command):
    code, text, errors = command("--json")
    assert code == 1
    (row,) = rows_of(text, "lacking").values()
    assert row["verdict"] == "not run"
    assert "cifar-10-batches-py" in row["why_not"]
    assert errors.count("lacking is not run") == 1
    assert json.loads(text)["verdicts"]["reproduced"] == 4
    (command.data / "numbers.json").unlink()
    code, text, _ = command("--claim", "read", "--json")
    assert code == 1
    assert {row["verdict"] for row in rows_of(text, "read").values()} == {"not run"}


@pytest.mark.usefixtures("no_page")
def test_finished_runs_are_not_done_again_and_cells_come_one_by_one(command):
    code, text, _ = command("--cell", "narrow/sgd", "--seeds", "1", "--json")
    assert (code, list(json.loads(text)["claims"])) == (0, ["errors"])
    runs = command.runs / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.glob("*/result.json")}
    assert len(before) == 1
    code, text, _ = command("--cell", "narrow", "--cell", "wide", "--json")
    assert len(rows_of(text, "errors")) == 3
    after = {path: path.stat().st_mtime_ns for path in runs.glob("*/result.json")}
    assert len(after) == 6
    assert before.items() <= after.items()


@pytest.mark.usefixtures("no_page")
def test_a_cell_of_another_scale_is_said_to_be_one(command):
    code, text, _ = command("--cell", "wide", "narrow/sgd", "--scale", "smoke")
    assert code == 0
    assert "no cell of the scale smoke" in text
    _, text, _ = command("--cell", "wide", "--scale", "smoke", "--json")
    (row,) = rows_of(text, "errors").values()
    assert row["verdict"] == "not run at this scale"
    assert command("--cell", "wide/adam")[0] == 2
    assert "wide/sgd" in command("--cell", "wide/adam")[2]
    assert command("--claim", "error")[0] == 2


@pytest.mark.usefixtures("no_page")
def test_cost_is_known_without_data_and_without_work(command):
    (command.data / "numbers.json").unlink()
    code, text, _ = command("--dry-run", "--json")
    assert code == 0
    costs = json.loads(text)
    errors, lacking = costs["claims"]["errors"], costs["claims"]["lacking"]
    assert (errors["trainings"], errors["runs"], errors["finished"]) == (6, 6, 0)
    # 40 samples for one epoch: SAM evaluates two gradients of each.
    assert errors["gradients"] == 2 * (40 + 80 + 40)
    assert errors["forwards"] == 6 * (40 + 50)
    assert errors["parameters"] == [64 * 2 + 2 + 2 * 10 + 10, 64 * 3 + 3 + 3 * 10 + 10]
    assert errors["time"] is None
    assert lacking["gradients"] == 40
    assert costs["total"]["trainings"] == 7
    assert not command.runs.exists()
    command("--claim", "errors", "--seeds", "1")
    code, text, _ = command("--dry-run", "--json")
    errors = json.loads(text)["claims"]["errors"]
    assert errors["finished"] == 3
    assert errors["time"]["seconds"] > 0
    code, text, _ = command("--dry-run")
    assert "errors" in text
    assert "left on" in text


def test_list_shows_claims_and_published_numbers(command, capsys):
    code, text, _ = command("--list")
    assert code == 0
    for word in ("Table 1", "40.0 ± 3.0 (3)", "33.5", "tolerance 200 points", "smoke"):
        assert word in text
    assert "Reproduced means: The number is within 0.01." in text
    _, text, _ = command("--list", "--json", "--claim", "read")
    record = json.loads(text)
    assert list(record["claims"]) == ["read"]
    assert record["claims"]["read"]["cells"][0]["published"] == 1.0
    assert main(["list", "experiments", "--json"]) == 0
    assert "toy" in json.loads(capsys.readouterr().out)["experiment"]
    assert main(["list", "experiments", "toy"]) == 0
    assert "networks make errors" in capsys.readouterr().out


def test_a_list_does_not_wait_for_torch():
    code = """
import sys
from steppe_lab.cli import main
main(["reproduce", "zhuang2022_gsam", "--list"])
main(["list", "experiments"])
print("torch" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.usefixtures("no_page")
def test_options_for_one_claim_are_refused_for_several(command):
    for words in (["--pilot", "1"], ["--limit", "1"], ["--only", "seed=0"]):
        code, _, errors = command(*words)
        assert code == 2
        assert "name one with --claim" in errors
    code, text, _ = command("--claim", "errors", "--limit", "1", "--json")
    verdicts = [row["verdict"] for row in rows_of(text, "errors").values()]
    assert verdicts == ["within noise", "not run", "not run"]
    code, text, _ = command("--claim", "errors", "--pilot", "2", "--json")
    assert json.loads(text)["claims"]["errors"]["finished"] == 2


def test_trainings_are_named_by_their_cells_and_counted_once_as_shared(tmp_path):
    claim, request = experiments.find_experiment("toy").claim("errors"), Request()
    study = claim.study(request, Store(tmp_path))
    names = [trial.name for trial in study.plan.values()]
    cells = ("narrow/sgd", "narrow/sam", "wide/sgd")
    assert names == [f"{cell}, seed {seed}" for seed in (0, 1) for cell in cells]
    first = cost_of(claim, request, study)
    again = cost_of(claim, request, study, set(study.plan))
    part = study.plan.of(list(study.plan.values())[:2])
    few = cost_of(claim, request, replace(study, plan=part), set(study.plan))
    total = total_of([first, again, few])
    assert (total.trainings, total.runs, total.finished) == (6, 6, 0)
    assert (total.gradients, total.forwards) == (first.gradients, first.forwards)
    # Counted claim by claim, trainings are those of the total and the repeated ones.
    assert first.trainings + again.trainings + few.trainings == 6 + total.repeated
    assert (first.repeated, again.repeated) == (0, 6)
    said = " ".join(cost_sentences([first, replace(again, claim="twin")], 1))
    assert "are done once: 6 of twin." in said


def test_an_interval_without_an_end_is_said_in_words_and_has_none_as_json():
    one = mean_interval([5.0])
    open_above = Interval(5.0, 0.1, math.inf, 2)
    places = Places(1, 1)
    assert interval_text(one, places) == "5.0 (1)"
    assert interval_text(open_above, places) == "5.0 [above 0.1] (2)"
    claim = experiments.find_experiment("toy").claim("errors")
    ours = {"narrow/sgd": Ours(value=one)}
    row = results_of(claim, Request(), None, ours=ours)
    result = ExperimentResult(
        experiment=experiments.find_experiment("toy"), request=Request(), claims=(row,)
    )
    assert ",-inf," not in result_csv(result)
    record = result_record(result)["claims"]["errors"]["rows"][0]["ours"]
    assert (record["low"], record["high"]) == (None, None)


def test_cells_with_one_note_are_named_together_by_how_they_begin():
    claim = experiments.find_experiment("toy").claim("errors")
    names = ("wide/a/sgd", "wide/a/sam", "wide/b/sgd", "narrow/a")
    notes = ("few", "few", "", "few")
    rows = tuple(
        Row(
            cell=replace(claim.cells[0], name=name),
            published=Published(value=1.0, note=note),
            ours=Ours(why_not="not finished"),
            verdict="not run",
        )
        for name, note in zip(names, notes, strict=True)
    )
    said = remarks(ClaimResult(claim=claim, rows=rows))
    assert "wide/a and narrow/a, published: few." in said
    assert "Not run, wide and narrow/a: not finished." in said


def test_intervals_have_no_values_that_a_quantity_cannot_have():
    few = mean_interval([-1.0, -0.4, -0.9])
    assert few.low < -1
    claim = replace(
        experiments.find_experiment("toy").claim("read"),
        quantity=Quantity(name="tau", title="tau", between=(-1.0, 1.0)),
        tolerance=3.0,
        files=(),
        check=lambda _: {"one": Ours(value=few, protocol=few)},
    )
    result = results_of(claim, Request(cells=("one",)), None)
    (row,) = result.rows
    for interval in (row.ours.value, row.ours.protocol):
        assert (interval.low, interval.high) == (-1.0, few.high)
    assert result_table(result).rows[0][2].text == "−0.8 [−1.0, 0.0] (3)"
    # Of the interval that is cut, half the width would be small enough.
    assert row.verdict == "within noise"
    half = 2 * row.ours.value.half_width
    assert 1 - few.mean + half < 3 < 1 - few.mean + 2 * few.half_width


@pytest.mark.usefixtures("no_page")
def test_hours_are_for_the_whole_command(command, monkeypatch):
    asked = []

    def run_local(store, runs, work, *, seconds, **more):
        asked.append(seconds)
        return in_process.run_local(store, runs, work, **more)

    monkeypatch.setattr("steppe_lab.execution.local.run_local", run_local)
    clock = iter([0.0, 3000.0, 9000.0])
    time = SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr("steppe_lab.cli.claim_work.time", time)
    code, text, errors = command("--hours", "2", "--json")
    assert asked == [pytest.approx(7200.0 - 3000.0)]
    assert "the same command does the runs that are left" in errors
    (row,) = rows_of(text, "lacking").values()
    assert (code, row["verdict"], row["why_not"]) == (0, "not run", "not finished")


@pytest.mark.usefixtures("no_page")
def test_terminal_and_csv_have_the_numbers(command):
    code, text, _ = command("--claim", "errors", "read")
    assert code == 0
    for word in (
        "errors (Table 1): networks make errors",
        "narrow/sam  40.0 ± 3.0 (3)",
        "published protocol differs",
        "Of 7 cells: 4 reproduced, 1 reproduced by the published protocol alone,",
        "Of no use beyond tests.",
        "wide/sgd, published: of a file.",
        "Numbers are made up.",
    ):
        assert word in text
    assert text.splitlines()[-1].endswith("reports/toy@full.html")
    _, text, _ = command("--claim", "read", "--csv")
    rows = {row["cell"]: row for row in csv.DictReader(io.StringIO(text))}
    assert rows["three"]["verdict"] == "not reproduced"
    assert (rows["two"]["published"], rows["two"]["protocol_mean"]) == ("2.0", "2.0")
    assert command("--csv", "--json")[0] == 2


def test_the_page_has_the_whole_experiment_whatever_was_asked(command, tmp_path):
    page = tmp_path / "page.html"
    command("--cell", "narrow/sgd", "--page", str(page))
    text = page.read_text()
    for word in (
        "Numbers stand in a file",
        "steppe train",
        "--model mlp:hidden=2,depth=1",
        "Nobody, 2026",
        "--page",
    ):
        assert word in text
    assert "--cell" not in text.partition("Make it again</h2>")[2]


@pytest.mark.usefixtures("no_page")
def test_verbs_of_studies_know_the_runs_of_claims(command, capsys):
    command("--claim", "errors", "--scale", "smoke")
    store = ["--out", str(command.runs)]
    assert main(["study", "status", "toy-errors@smoke", *store, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left"] == 0
    assert main(["study", *store]) == 0
    assert "toy-errors@smoke" in capsys.readouterr().out
    table = command.runs / "table.csv"
    export = ["study", "export", "toy-errors@smoke", "--out", str(table)]
    assert main([*export, "--store", str(command.runs)]) == 0
    assert table.exists()


@pytest.mark.parametrize(
    ("selection", "samples"),
    [
        ({}, (50_000, 10_000)),
        ({"train_samples": 300, "test_fraction": 0.1}, (300, 1000)),
        ({"train_fraction": 0.5}, (25_000, 10_000)),
        ({"data": "tudataset:name=ENZYMES"}, None),
    ],
)
def test_samples_of_a_recipe_are_known_without_files(selection, samples):
    recipe = recipe_of_fields({"data": "cifar10", "model": "lenet", **selection})
    assert published_samples(recipe) == samples
