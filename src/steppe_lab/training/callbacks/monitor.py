"""The number of every epoch that a rule looks at, and which values are better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from steppe.errors import SettingError
from steppe.registry.registry import unknown_name
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.evaluation import AVERAGED
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
        columns = monitored_columns(task, averaged=recipe.average is not None)
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


def monitored_columns(task: AbstractTask, *, averaged: bool) -> dict[str, Direction]:
    """Columns of a history that can be monitored, and which values are better.

    Args:
        task: of the training.
        averaged: whether an average of the weights is scored too.
    """
    scores: dict[str, Direction] = {"loss": "smaller"}
    scores |= {m.name: m.better for m in (task.headline, *task.others)}
    parts = [f"{part}_{name}" for part in ("train", "test") for name in scores]
    columns: dict[str, Direction] = {RUNNING: "smaller"}
    for before in ("", AVERAGED) if averaged else ("",):
        columns |= {before + p: scores[p.partition("_")[2]] for p in parts}
    return columns
