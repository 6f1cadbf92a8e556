"""A setting over several values on the command: chosen on validation samples."""

from __future__ import annotations

import csv
import io

import pytest
from pydantic import ValidationError

from steppe_lab.datasets.loading import load_split
from steppe_lab.reports.comparison.page import render
from steppe_lab.reports.comparison.pictures import pictures
from steppe_lab.reports.comparison.publishing import command_of
from steppe_lab.reports.comparison.rows import to_csv
from steppe_lab.reports.comparison.summary import summarise
from steppe_lab.reports.comparison.sweep import sweep_of
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.store.store import Store
from steppe_lab.studies.comparison import ComparisonStudy, stored_study
from steppe_lab.studies.sweep import with_validation
from steppe_lab.tasks.classification import Classification
from steppe_lab.training import checkpoints
from steppe_lab.training.evaluation import evaluate

SMALL = {
    "model": "small_cnn:width=2",
    "train_samples": 60,
    "epochs": 2,
    "seeds": 2,
    "line_points": 5,
    "measures": ("lpf:samples=3",),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    settings = CompareSettings(optimizers=("sam",), sweep="rho=0.001,0.05,5", **SMALL)
    said = []
    return (
        store,
        settings,
        ComparisonStudy(settings, store).run(progress=said.append),
        said,
    )


def test_values_become_optimizers_that_are_judged_on_validation_samples():
    settings = CompareSettings(optimizers=("sam",), sweep="rho=0.2,0.1")
    assert settings.optimizers == ("sam:rho=0.1", "sam:rho=0.2")
    assert (settings.sweep, settings.held_out) == ("rho", "validation")
    again = CompareSettings.model_validate(settings.model_dump())
    assert (again, again.name) == (settings, settings.name)
    assert command_of(settings) == (
        "steppe compare sam:rho=0.1 sam:rho=0.2 --held-out validation --sweep rho"
    )


@pytest.mark.parametrize(
    ("sweep", "texts"),
    [
        ("rho=0.01..1:log3", ["0.01", "0.1", "1"]),
        ("rho=1,1e-5", ["1e-05", "1"]),
        ("rho=0.1,0.2,0.1", ["0.1", "0.2"]),
    ],
)
def test_values_are_listed_or_log_spaced(sweep, texts):
    settings = CompareSettings(optimizers=("asam:eta=0.1",), sweep=sweep)
    assert settings.optimizers == tuple(f"asam:eta=0.1,rho={text}" for text in texts)


@pytest.mark.parametrize(
    ("optimizers", "sweep", "said"),
    [
        (("sgd", "sam"), "rho=0.1,1", "a sweep needs one optimizer, got 2"),
        (("sam",), "rho=0.1", "two or more finite values"),
        (("sam",), "rho=0.1,x", "two or more finite values"),
        (("sam",), "rho=0.1..1", "two or more finite values"),
        (("sam",), "rho=0..1:log3", "need 0 < low < high"),
    ],
)
def test_a_sweep_without_meaning_is_refused(optimizers, sweep, said):
    with pytest.raises(ValidationError, match=said):
        CompareSettings(optimizers=optimizers, sweep=sweep)


def test_names_of_comparisons_without_a_sweep_are_as_before():
    assert CompareSettings().name == "compare-digits-small_cnn-6c5cbe6c"


@pytest.mark.slow
def test_every_value_has_its_validation_and_test_error(finished):
    store, settings, comparison, said = finished
    assert said[-1].done == said[-1].total == 18  # training, analysis, scoring
    found = sweep_of(comparison)
    assert [each.value for each in found.values] == [0.001, 0.05, 5.0]
    for each, name in zip(found.values, settings.optimizers):
        rows = comparison.of(name)
        seen = sum(row.last["test_error"] for row in rows) / 2
        assert each.validation.mean == pytest.approx(seen)
        path = store.artefact(rows[0].training, "model.safetensors")
        loaded = checkpoints.load(path)
        test = load_split(loaded.recipe.model_copy(update={"held_out": "test"})).test
        assert len(test) == 500
        score = evaluate(loaded.model, test, Classification())
        assert comparison.tested[rows[0].training] == score.metrics["error"]
    assert ComparisonStudy(settings, store).left == 0
    assert stored_study(store).collect() == comparison


def test_the_value_is_chosen_by_validation_error_and_never_by_test_error(finished):
    comparison = finished[2]
    errors = {"sam:rho=0.001": 0.3, "sam:rho=0.05": 0.2, "sam:rho=5": 0.201}
    rows = tuple(
        row.model_copy(
            update={
                "last": {**row.last, "test_error": errors[row.optimizer]},
                "wrong": tuple(range(round(1000 * errors[row.optimizer]))),
                "test_samples": 1000,
            }
        )
        for row in comparison.rows
    )
    tested = {row.training: 1 - row.last["test_error"] for row in rows}
    made = comparison.model_copy(update={"rows": rows, "tested": tested})
    found = sweep_of(made)
    assert found.best == 0.05
    assert "without the test set: rho = 0.05, with a test error of 80.0 %" in (
        found.answer
    )
    assert [cells[-1] for cells in found.table()] == ["", "chosen", ""]
    assert found.answer.endswith(" 5 is within noise of it.")
    fewer = made.model_copy(update={"rows": rows[:4] + rows[5:]})
    assert sweep_of(fewer).best == 5.0  # 0.05 lost a seed
    assert "highest value tried, so try higher" in sweep_of(fewer).answer
    assert "better than every other that finished" in sweep_of(fewer).answer


@pytest.mark.slow
def test_the_page_shows_the_curve_and_the_choice(finished):
    comparison = finished[2]
    first = pictures(comparison, summarise(comparison))[0]
    assert first.title == "Errors over rho"
    page = render(comparison, command="steppe compare", versions={})
    assert "Which rho is best?" in page
    assert sweep_of(comparison).answer in page


def test_the_rows_have_both_errors(finished):
    rows = list(csv.DictReader(io.StringIO(to_csv(finished[2]))))
    for row in rows:
        assert float(row["test_error"]) == finished[2].tested[row["training"]]
        assert row["validation_error"]


CODE = """
import dataclasses
from steppe_lab import datasets

def load(*, data_dir):
    return dataclasses.replace(datasets.load("digits"), name="all_digits")
"""


def test_samples_are_held_out_where_all_would_be_trained_on(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "all_digits.py").write_text(CODE)
    settings = CompareSettings(
        optimizers=("sam",), sweep="rho=0.1,0.2", data="all_digits:load"
    )
    assert with_validation(settings).train_samples == 1297 - 1297 // 5
    digits = settings.model_copy(update={"data": "digits"})
    assert with_validation(digits) == digits
