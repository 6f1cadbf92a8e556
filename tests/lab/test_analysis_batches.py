"""Batches that a trained network is measured on: other sizes, the same numbers."""

import pytest
from pydantic import ValidationError

from steppe_lab.progress import silent
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.analysis import Analysis
from steppe_lab.store.store import Store, run_id
from steppe_lab.training.recipe import Recipe
from steppe_lab.work import work

MEASURES = (
    "lpf:samples=4",
    "gradient_norm",
    "top_eigenvalue",
    "local_entropy_gradient",
)


def worked(store, record):
    run = store.add(config_of(record))
    store.finish(run, work(store.config(run), store.folder(run), silent))
    return run


@pytest.mark.slow
def test_numbers_are_those_of_other_batches_but_for_rounding(tmp_path):
    store = Store(tmp_path)
    recipe = Recipe.model_validate(
        {"data": "digits", "model": "mlp:hidden=4", "base": "sgd:lr=0.1", "epochs": 1}
    )
    training = worked(store, recipe)
    runs = [
        worked(
            store,
            Analysis(
                training=training,
                measures=MEASURES,
                samples=90,
                batch_size=size,
                line_points=0,
            ),
        )
        for size in (90, 32, 1000)
    ]
    whole, parts, more = (store.result(run) for run in runs)
    for name, record in whole["measures"].items():
        assert parts["measures"][name]["value"] == pytest.approx(
            record["value"], rel=1e-4
        )
    # One batch holds all samples in both.
    values = [r["measures"]["gradient_norm"]["value"] for r in (whole, more)]
    assert values[0] == values[1]


def test_the_size_stands_in_the_record_where_it_is_another():
    usual = Analysis(training="0" * 16, measures=("loss",))
    larger = usual.model_copy(update={"batch_size": 1024})
    assert "batch_size" not in config_of(usual)
    assert config_of(larger)["batch_size"] == 1024
    assert run_id(config_of(usual)) != run_id(config_of(larger))
    assert Analysis.model_validate(usual.model_dump(mode="json")) == usual


@pytest.mark.parametrize("size", [0, -1, 2.5])
def test_a_batch_of_no_samples_is_refused(size):
    with pytest.raises(ValidationError, match="batch_size"):
        Analysis(training="0" * 16, measures=("loss",), batch_size=size)
