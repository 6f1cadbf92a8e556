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
RUNNING = "running_loss"  # in every row
GRADIENTS: tuple[str, ...] = ("grad_norm", "grad_norm_max")  # where clipping notes them


@dataclass(frozen=True)
class Monitor:
    """A number of every epoch that a rule looks at: a column of the history.

    Args:
        column: name of it, such as "test_error" or its opposite, "test_accuracy".
        better: which of its values are better.
        opposite_of: the column that it is 1 minus; "" where it is one itself.
    """

    column: str
    better: Direction
    opposite_of: str = ""

    @classmethod
    def of(
        cls,
        column: str,
        recipe: Recipe,
        task: AbstractTask,
        instead: str = f"monitor {RUNNING}",
    ) -> Monitor:
        """The column of that name in the history of a recipe.

        Args:
            column: name of it.
            recipe: of the training.
            task: of the training.
            instead: fix of a message, with a column that every epoch has.

        Raises:
            UnknownNameError: the history has no such column.
            SettingError: not every epoch has a value there.
        """
        averaged, groups = recipe.average is not None, recipe.selection.train_groups
        columns = monitored_columns(task, averaged=averaged, groups=groups)
        if recipe.clip_norm is not None or recipe.clip_value is not None:
            columns |= dict.fromkeys(GRADIENTS, "smaller")
        elif column in GRADIENTS:
            raise SettingError(
                f"norms of gradients are in the history where they are clipped, got "
                f"{column} and no clipping; give --clip-norm, a large one to clip none."
            )
        opposites = opposite_columns(task, columns)
        if column not in columns and column not in opposites:
            raise unknown_name("metric to monitor", column, [*columns, *opposites])
        scored = column not in (RUNNING, *GRADIENTS)  # the others are in every row
        if scored and recipe.evaluate_every > 1:
            raise SettingError(
                f"evaluate_every must be 1 to monitor {column} after every epoch, got "
                f"{recipe.evaluate_every}; leave it out, or {instead}."
            )
        if column in columns:
            return cls(column, columns[column])
        of = opposites[column]
        turned: Direction = "larger" if columns[of] == "smaller" else "smaller"
        return cls(column, turned, of)

    def value(self, row: Mapping[str, float]) -> float | None:
        """The value of an epoch; None while an average holds nothing to be scored."""
        value = row.get(self.opposite_of or self.column)
        return 1 - value if self.opposite_of and value is not None else value

    def is_better(self, value: float, best: float, by: float = 0.0) -> bool:
        """Whether a value is better than the best one, or is the first.

        Args:
            value: of this epoch.
            best: of the epochs before; NaN before the first.
            by: more than so much better.
        """
        if math.isnan(best):
            return True
        return value < best - by if self.better == "smaller" else value > best + by


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
        # Where networks are judged alone: a corpus costs a search for each text.
        columns |= {f"{before}test_{m.name}": m.better for m in task.corpus_metrics}
    return columns


def opposite_columns(task: AbstractTask, columns: Iterable[str]) -> dict[str, str]:
    """Names of 1 minus a share, such as accuracies, and the columns of the shares.

    Args:
        task: of the training.
        columns: of its history.
    """
    named = [m for m in (task.headline, *task.others) if m.opposite]
    return {
        column.removesuffix(metric.name) + metric.opposite: column
        for column in columns
        for metric in named
        if column.endswith(f"_{metric.name}")
    }


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
        fix = "give --lr-schedule plateau or --patience, or leave it out"
        if recipe.stop_at_loss is not None and recipe.monitor == RUNNING:
            fix = f"for --stop-at-loss give --stop-on {RUNNING} instead"
        raise SettingError(
            f"monitor is for a plateau or --patience, got {recipe.monitor} and "
            f"neither; {fix}."
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
