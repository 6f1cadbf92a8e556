"""The column of the history that rules look at."""

from __future__ import annotations

from typing import ClassVar

import pytest

from steppe.errors import SettingError, UnknownNameError
from steppe_lab.datasets import load
from steppe_lab.tasks import Metric
from steppe_lab.tasks.classification import Classification
from steppe_lab.training.callbacks.monitor import (
    GRADIENTS,
    Monitor,
    monitored_columns,
)
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.recipe import Recipe


def recipe(optimizer: str = "sgd:lr=0.05", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=4",
        "train_samples": 40,
        "epochs": 2,
        **read_optimizer(optimizer, "sgd:lr=0.05"),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.mark.parametrize("noise", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("optimizer", ["sgd", "sgd+ema"])
def test_the_columns_are_those_of_the_history(optimizer, noise):
    made, task = recipe(optimizer, label_noise=noise), Classification()
    split = made.selection.apply(load("digits"))
    history = train(made, split).history
    groups = made.selection.train_groups
    assert groups == tuple(split.train_groups)
    columns = monitored_columns(task, averaged="+" in optimizer, groups=groups)
    assert {*columns, "epoch", "lr"} == {*history[-1]}
    for name, better in columns.items():
        monitor = Monitor.of(name, made, task)
        assert (monitor.better, monitor.value(history[0])) == (better, history[0][name])


class Hits(Classification):
    """A task with a metric of which more is better."""

    others: ClassVar = (
        Metric(name="hits", title="hits", units="share", better="larger"),
    )


@pytest.mark.parametrize("part", ["train", "test", "average_train", "average_test"])
def test_the_direction_is_that_of_the_metric(part):
    columns = monitored_columns(Hits(), averaged=True)
    directions = {n: columns[f"{part}_{n}"] for n in ("loss", "error", "hits")}
    assert directions == {"loss": "smaller", "error": "smaller", "hits": "larger"}


@pytest.mark.parametrize(
    ("column", "more", "error", "said"),
    [
        ("test_eror", {}, UnknownNameError, "metric to monitor 'test_eror': did you"),
        ("average_test_loss", {}, UnknownNameError, "there is running_loss, test_a"),
        ("test_loss", {"evaluate_every": 2}, SettingError, "must be 1 to monitor test"),
    ],
)
def test_a_column_that_is_not_there_every_epoch_is_refused(column, more, error, said):
    with pytest.raises(error) as caught:
        Monitor.of(column, recipe(**more), Classification())
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("clipping", [{"clip_norm": 100.0}, {"clip_value": 100.0}])
def test_norms_of_gradients_are_there_every_epoch_where_they_are_clipped(clipping):
    made, task = recipe(**clipping, evaluate_every=2), Classification()
    split = made.selection.apply(load("digits"))
    history = train(made, split).history
    for column in GRADIENTS:
        monitor = Monitor.of(column, made, task)
        assert monitor.better == "smaller"
        assert [monitor.value(row) for row in history] == [
            row[column] for row in history
        ]


def test_norms_of_gradients_want_clipping():
    with pytest.raises(SettingError, match="got grad_norm and no clipping; give --cl"):
        Monitor.of("grad_norm", recipe(), Classification())


def test_the_running_loss_is_there_in_epochs_without_scores():
    assert Monitor.of("running_loss", recipe(evaluate_every=2), Classification())


def test_an_average_that_holds_nothing_has_no_value():
    monitor = Monitor.of("average_test_loss", recipe("sgd+ema"), Classification())
    assert monitor.value({"test_loss": 1.0}) is None
