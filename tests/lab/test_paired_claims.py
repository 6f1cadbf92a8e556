"""Claims that compare trainings, follow them or go on from them."""

import math

import pytest

import in_process
from steppe.errors import StoreError
from steppe_lab.reproduction import tracked
from steppe_lab.reproduction.claims import Request
from steppe_lab.reproduction.continued import ContinuedClaim
from steppe_lab.reproduction.paired import PairedClaim
from steppe_lab.reproduction.published import Cell, Published, Quantity, Scale
from steppe_lab.reproduction.results import results_of
from steppe_lab.reproduction.scores import (
    accuracy_after,
    accuracy_on_test,
    best_accuracy,
    best_on_test,
    last_accuracy,
)
from steppe_lab.reproduction.trained import TrainedClaim
from steppe_lab.reproduction.verdicts import Ours, exactly, verdict_on
from steppe_lab.statistics.intervals import Interval
from steppe_lab.store.store import Store

TRAININGS = TrainedClaim(
    experiment="tests",
    name="rates",
    title="rates",
    source="nowhere",
    quantity=Quantity(name="train_loss", title="training loss", factor=2.0),
    tolerance=1.0,
    reproduced="never",
    base={
        "data": "digits",
        "train_samples": 40,
        "test_fraction": 0.1,
        "model": "mlp:hidden=4,depth=1",
        "optimizer": "sgd",
        "epochs": 2,
        "batch_size": 8,
        "lr_schedule": "constant",
    },
    sizes={"full": Scale(seeds=2), "smoke": Scale(cells=("slow",))},
    cells=(
        Cell(name="fast", settings={"base": "sgd:lr=0.1"}),
        Cell(name="slow", settings={"base": "sgd:lr=0.001"}),
    ),
)
ABOVE = Published(value=1.0, bound="above")


def paired(**settings):
    """The loss of one rate beside that of the other."""
    asked = {
        "name": "ratio",
        "title": "the slow rate has the larger loss",
        "source": "nowhere",
        "quantity": TRAININGS.quantity,
        "tolerance": 0.0,
        "reproduced": "above 1",
        "of": TRAININGS,
        "pairs": {"slow_over_fast": ("slow", "fast")},
        "cells": (Cell(name="slow_over_fast", published=ABOVE),),
    }
    return PairedClaim(**{**asked, **settings})


def done(claim, store, scale="full"):
    """The study of a claim with all of its runs."""
    request = Request(scale=scale)
    study = claim.study(request, store)
    study.study.work(in_process.run_local)
    return request, study


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A store with the trainings of both rates."""
    store = Store(tmp_path_factory.mktemp("rates"))
    return (store, *done(TRAININGS, store))


def test_a_ratio_is_the_geometric_mean_over_seeds_that_both_have(trained):
    store, request, study = trained
    by_seed = TRAININGS.by_seed(request, study)
    assert list(by_seed) == ["fast", "slow"]
    assert list(by_seed["slow"]) == [0, 1]
    ratios = [by_seed["slow"][seed] / by_seed["fast"][seed] for seed in (0, 1)]
    own = paired().ours(request, study)["slow_over_fast"].value
    assert own.mean == pytest.approx(math.sqrt(math.prod(ratios)), rel=1e-12)
    assert own.count == 2
    assert not store.failure(next(iter(study.plan)))


def test_a_difference_is_in_the_units_of_the_quantity(trained):
    _, request, study = trained
    by_seed = TRAININGS.by_seed(request, study)
    differences = [by_seed["slow"][seed] - by_seed["fast"][seed] for seed in (0, 1)]
    own = paired(by="difference").ours(request, study)["slow_over_fast"].value
    assert own.mean == pytest.approx(sum(differences) / 2, rel=1e-12)


def test_a_comparison_trains_both_of_its_cells_once(trained):
    store, request, study = trained
    again = paired().study(request, store)
    assert set(again.plan) == set(study.plan)
    assert again.settings == study.settings


def test_a_comparison_is_of_scales_with_both_of_its_cells():
    assert paired().chosen(Request(scale="full"))
    assert not paired().chosen(Request(scale="smoke"))
    assert not paired().chosen(Request(scale="laptop"))


def test_a_comparison_without_trainings_says_so(tmp_path):
    request = Request(scale="full")
    study = paired().study(request, Store(tmp_path))
    (row,) = results_of(paired(), request, study).rows
    assert row.verdict == "not run"
    assert "no seed" in row.ours.why_not


@pytest.mark.parametrize(
    ("low", "high", "bound", "verdict"),
    [
        (1.1, 1.5, "above", "reproduced"),
        (1.1, 1.5, "below", "not reproduced"),
        (0.5, 0.9, "above", "not reproduced"),
        (0.5, 0.9, "below", "reproduced"),
        (0.9, 1.1, "above", "within noise"),
        (-math.inf, math.inf, "above", "within noise"),
    ],
)
def test_a_side_is_reproduced_where_the_whole_interval_lies_on_it(
    low, high, bound, verdict
):
    ours = Ours(value=Interval(1.05, low, high, 3))
    published = Published(value=1.0, bound=bound)
    assert verdict_on(published, ours, tolerance=0.0, comparable=True) == verdict


def test_no_number_is_on_no_side():
    ours = Ours(value=exactly(math.nan))
    said = verdict_on(ABOVE, ours, tolerance=0.0, comparable=True)
    assert said == "not reproduced"


def test_scores_are_those_of_the_history(trained, monkeypatch):
    store, _, study = trained
    run = next(iter(study.plan))
    runs = {"training": run}
    result = store.result(run)
    assert last_accuracy(store, runs) == 1 - result["last"]["test_error"]
    assert best_accuracy(store, runs) == 1 - result["best"]["test_error"]
    assert accuracy_after(2)(store, runs) == last_accuracy(store, runs)
    assert store.config(run)["epochs"] == 2
    assert accuracy_after(3)(store, runs) == last_accuracy(store, runs)
    # One that stopped before its planned end has no number of a later epoch.
    monkeypatch.setattr(store, "config", lambda _: {"epochs": 5})
    assert accuracy_after(3)(store, runs) is None
    assert accuracy_after(9)(store, runs) is None


def test_a_network_that_was_not_followed_has_no_eigenvalues(trained):
    store, _, study = trained
    runs = {"training": next(iter(study.plan))}
    readings = (tracked.peak, tracked.rise, tracked.fall, tracked.change)
    assert [each(store, runs) for each in readings] == [None] * 4
    assert tracked.at_best(store, runs) is None


def with_table(trained, text):
    """The runs of a finished training whose table of eigenvalues is this."""
    store, _, study = trained
    run = next(iter(study.plan))
    path = store.artefact(run, tracked.TABLE)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return store, {"training": run}


def test_readings_are_of_the_first_the_largest_and_the_last_value(trained):
    table = "epoch,step,SN\n0,0,2.0\n1,5,8.0\n2,10,4.0\n"
    store, runs = with_table(trained, table)
    assert tracked.peak(store, runs) == 8.0
    assert tracked.rise(store, runs) == 4.0
    assert tracked.fall(store, runs) == 2.0
    assert tracked.change(store, runs) == 2.0
    best = int(store.result(runs["training"])["best"]["epoch"])
    assert tracked.at_best(store, runs) == {1: 8.0, 2: 4.0}[best]


def test_of_an_eigenvalue_of_0_there_is_no_ratio(trained):
    store, runs = with_table(trained, "epoch,step,SN\n0,0,0.0\n1,5,8.0\n")
    assert tracked.rise(store, runs) is None
    assert tracked.fall(store, runs) == 1.0


@pytest.mark.parametrize("text", ["epoch,SN\n0,none\n", "epoch\n0\n", "a,b\n1,2\n"])
def test_a_damaged_table_is_one_sentence(trained, text):
    store, runs = with_table(trained, text)
    with pytest.raises(StoreError, match=r"track/history\.csv is damaged"):
        tracked.peak(store, runs)


ON = ContinuedClaim(
    name="on",
    title="going on",
    source="nowhere",
    quantity=TRAININGS.quantity,
    tolerance=0.0,
    reproduced="never",
    start=TrainedClaim(
        **{
            **{name: getattr(TRAININGS, name) for name in ("title", "source")},
            **{name: getattr(TRAININGS, name) for name in ("quantity", "tolerance")},
            **{name: getattr(TRAININGS, name) for name in ("reproduced", "experiment")},
        },
        name="start",
        base=TRAININGS.base,
        sizes={"full": Scale(settings={"epochs": 1})},
        cells=(Cell(name="start", settings={"base": "sgd:lr=0.05"}),),
    ),
    trainings=TRAININGS,
    cells=TRAININGS.cells,
)


def test_trainings_go_on_from_the_finished_network_of_another(tmp_path):
    store = Store(tmp_path)
    request, first = done(ON, store)
    (start,) = first.plan
    waiting = ON.ours(request, first)
    assert "not finished" in waiting["fast"].why_not
    _, then = done(ON, store)
    assert len(then.plan) == 4
    for trial in then.plan.values():
        assert trial.recipe.start_from.startswith("sha256:")
    assert then.study.parent(next(iter(then.plan))) == start
    assert ON.study(request, store).settings == then.settings
    assert ON.ours(request, then)["fast"].value.count == 2


def test_the_best_network_by_validation_is_scored_on_the_test_set(tmp_path):
    base = {**TRAININGS.base, "held_out": "validation", "checkpoint_every": 0}
    claim = TrainedClaim(
        experiment="tests",
        name="best",
        title="best",
        source="nowhere",
        quantity=Quantity(name="test_accuracy", title="test accuracy"),
        tolerance=0.0,
        reproduced="never",
        base={name: v for name, v in base.items() if name != "test_fraction"},
        sizes={"full": Scale()},
        cells=(Cell(name="one", settings={"epochs": 3, "base": "sgd:lr=2"}),),
        further=best_on_test,
        read=accuracy_on_test,
    )
    store = Store(tmp_path)
    request, study = done(claim, store)
    own = claim.ours(request, study)["one"].value
    (run,) = study.plan
    runs = {"training": run, **study.study.followers(run)}
    assert store.config(runs["scoring"])["checkpoint"] == "best"
    result = store.result(runs["scoring"])
    assert own.mean == 1 - result["error"]
    assert result["samples"] != store.result(run)["test_samples"]
