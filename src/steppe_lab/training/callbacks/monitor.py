"""The number of every epoch that a rule looks at, and which values are better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from steppe.errors import SettingError
from steppe.registry.registry import unknown_name
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.evaluation import AVERAGED
from steppe_lab.training.plateau import plateau_of
from steppe_lab.training.recipe import Recipe

Direction = Literal["smaller", "larger"]
RUNNING = "running_loss"  # in every row; all other columns are scores


@dataclass(frozen=True)
class Monitor:
    """A column of the history that a rule looks at after every epoch.

    Args:
        column: name of it, such as "test_error".
        better: which of its values are better.
    """

    column: str
    better: Direction

    @classmethod
    def of(cls, column: str, recipe: Recipe, task: AbstractTask) -> Monitor:
        """The column of that name in the history of a recipe.

        Raises:
            UnknownNameError: the history has no such column.
            SettingError: not every epoch has a value there.
        """
        averaged, groups = recipe.average is not None, recipe.selection.train_groups
        columns = monitored_columns(task, averaged=averaged, groups=groups)
        if column not in columns:
            raise unknown_name("metric to monitor", column, columns)
        if column != RUNNING and recipe.evaluate_every > 1:
            raise SettingError(
                f"evaluate_every must be 1 to monitor {column} after every epoch, got "
                f"{recipe.evaluate_every}; leave it out, or monitor {RUNNING}."
            )
        return cls(column, columns[column])

    def value(self, row: Mapping[str, float]) -> float | None:
        """The value of an epoch; None while an average holds nothing to be scored."""
        return row.get(self.column)

    def is_better(self, value: float, best: float) -> bool:
        """Whether a value is better than the best one, or is the first."""
        if math.isnan(best):
            return True
        return value < best if self.better == "smaller" else value > best


def monitored_columns(
    task: AbstractTask, *, averaged: bool, groups: Iterable[str] = ()
) -> dict[str, Direction]:
    """Columns of a history that can be monitored, and which values are better.

    Args:
        task: of the training.
        averaged: whether an average of the weights is scored too.
        groups: of training samples that are scored apart.
    """
    scores: dict[str, Direction] = {"loss": "smaller"}
    scores |= {m.name: m.better for m in (task.headline, *task.others)}
    parts = ("train", *(f"train_{group}" for group in groups), "test")
    columns: dict[str, Direction] = {RUNNING: "smaller"}
    for before in ("", AVERAGED) if averaged else ("",):
        for part in parts:
            columns |= {f"{before}{part}_{name}": scores[name] for name in scores}
    return columns


def check_monitor(recipe: Recipe, task: AbstractTask) -> None:
    """Refuse a number to monitor that is not there, or that nothing looks at.

    Raises:
        UnknownNameError: the history has no such column.
        SettingError: not every epoch has a value there, or no rule reads it.
    """
    usual = type(recipe).model_fields["monitor"].default
    if _looked_at(recipe):
        Monitor.of(recipe.monitor, recipe, task)
    elif recipe.monitor != usual:
        raise SettingError(
            f"monitor is for a rule that looks at it, got {recipe.monitor} and none; "
            "give --lr-schedule plateau or --patience, or leave it out."
        )


def notes(recipe: Recipe) -> list[str]:
    """A sentence on a training that followed the samples it is judged on."""
    followed = [recipe.monitor] if _looked_at(recipe) else []
    if recipe.stop_at and not recipe.go_on:
        followed.append(recipe.stop_at)
    tested = [text for text in followed if "test_" in text]
    if tested and recipe.held_out == "test":
        return [
            f"the training followed {' and '.join(tested)}, so scores on the test set "
            "are too good; --held-out validation follows samples set apart"
        ]
    return []


def _looked_at(recipe: Recipe) -> bool:
    """Whether a rule of the recipe reads the monitored number."""
    return recipe.patience is not None or plateau_of(recipe.lr_schedule) is not None
