"""Rules that stop a training: a bound that is met, or a metric that stays the same.

The learning rate keeps to its schedule of the planned length: a training that stops is
the beginning of the one that does not.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from steppe.errors import SettingError
from steppe.stepping.driver import AbstractOptimizer
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.callbacks.abstract import AbstractCallback, no_state, nothing
from steppe_lab.training.callbacks.monitor import RUNNING, Monitor
from steppe_lab.training.recipe import Recipe
from steppe_lab.transfer import numbers

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState

PERTURBED = "running_perturbed_loss"  # a column that only a rule on it asks for
SIGNS: Mapping[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_BOUND = re.compile(r"(\w+)\s*(<=|>=|<|>)\s*(\S+)")


@dataclass(frozen=True)
class Bound:
    """A condition on a number of every epoch, such as train_accuracy>=0.99.

    Args:
        monitor: the number.
        sign: of `SIGNS`.
        value: on its right.
    """

    monitor: Monitor
    sign: str
    value: float

    @classmethod
    def of(cls, recipe: Recipe, task: AbstractTask) -> Bound | None:
        """The condition that a recipe stops at; None for none.

        Raises:
            SettingError: a text that is no condition, or a number that not every epoch
                has.
            UnknownNameError: a number that no epoch has.
        """
        if recipe.stop_at_loss is not None:
            # As published: at most this of scores, less than this of running means.
            name, value = str(recipe.stop_on), recipe.stop_at_loss
            sign = "<=" if name == "train_loss" else "<"
        elif recipe.stop_at:
            name, sign, value = read_bound(recipe.stop_at)
        else:
            return None
        if name != PERTURBED:
            instead = f"give --stop-on {RUNNING}"
            if recipe.stop_at:
                instead = f"stop at a bound on {RUNNING}"
            return cls(Monitor.of(name, recipe, task, instead), sign, value)
        if recipe.perturbations > 1:
            raise SettingError(
                f"{PERTURBED} is of one perturbation of the batch, got perturbations "
                f"{recipe.perturbations}; stop on running_loss."
            )
        return cls(Monitor(PERTURBED, "smaller"), sign, value)

    def met(self, row: Mapping[str, float]) -> float | None:
        """The number where the condition holds; None where it does not."""
        value = self.monitor.value(row)
        if value is None or not SIGNS[self.sign](value, self.value):
            return None
        return value


def read_bound(text: str) -> tuple[str, str, float]:
    """Name, sign and value of a condition.

    Example:
        >>> read_bound("train_accuracy >= 0.99")
        ('train_accuracy', '>=', 0.99)

    Raises:
        SettingError: a text of another form.
    """
    match = _BOUND.fullmatch(text.strip())
    try:
        if match is not None:
            return match[1], match[2], float(match[3])
    except ValueError:
        pass
    raise SettingError(
        "a condition to stop at is a column of the history, a sign and a number, as "
        f"train_accuracy>=0.99, got '{text}'."
    )


class StopAt(AbstractCallback):
    """Ends a training at the first epoch that meets a condition, or notes it alone.

    Args:
        bound: the condition.
        go_on: note the epoch and go on.
    """

    begin = before_epoch = before_step = after_step = nothing
    # The epoch of convergence is remembered by the state of the training.
    state_dict, load_state_dict = no_state, nothing

    def __init__(self, bound: Bound, *, go_on: bool) -> None:
        self._bound = bound
        self._go_on = go_on
        self._converged: int | None = None

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Look at the number of the epoch, until it has converged once."""
        bound = self._bound
        value = bound.met(row)
        if value is not None and state.converged_at is None:
            state.converged_at = state.epoch
            if not self._go_on:
                state.stopped = (
                    f"{bound.monitor.column} is {value:.4g} in epoch {state.epoch}, "
                    f"{bound.sign} {bound.value:g}"
                )
        self._converged = state.converged_at

    @property
    def results(self) -> Mapping[str, Any]:  # type: ignore[override]
        """The epoch of the first convergence, counted from 1; None for none."""
        return {"converged_at": self._converged}


class Patience(AbstractCallback):
    """Ends a training where a metric has not improved for some epochs.

    Args:
        monitor: the metric; an epoch in which it is no number is one without progress.
        epochs: without progress, after which the training ends.
        min_delta: an improvement is by more than this, as in the mode "abs" of torch's
            ReduceLROnPlateau.
    """

    begin = before_epoch = before_step = after_step = nothing

    def __init__(self, monitor: Monitor, epochs: int, min_delta: float = 0.0) -> None:
        self._monitor = monitor
        self._epochs = epochs
        self._min_delta = min_delta
        self._best: float | None = None
        self._best_epoch = 0
        self._waited = 0

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Compare the metric with its best value so far."""
        value = self._monitor.value(row)
        if value is None:
            return
        best = self._best
        known = not math.isnan(value)
        if known and (
            best is None or self._monitor.is_better(value, best, self._min_delta)
        ):
            self._best, self._best_epoch, self._waited = value, state.epoch, 0
            return
        self._waited += 1
        if self._waited >= self._epochs and not state.stopped:
            was = "no number" if best is None else f"{best:.4g}"
            by = f" by more than {self._min_delta:g}" if self._min_delta else ""
            state.stopped = (
                f"{self._monitor.column} has not improved{by} for {self._waited} "
                f"epochs, since it was {was} in epoch {self._best_epoch}"
            )

    def state_dict(self) -> dict[str, Any]:
        """The best value, its epoch, and the epochs since."""
        return {
            "best": self._best,
            "best_epoch": self._best_epoch,
            "waited": self._waited,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the values of `state_dict`."""
        self._best, self._best_epoch = state["best"], state["best_epoch"]
        self._waited = state["waited"]


class PerturbedLoss(AbstractCallback):
    """Adds the mean loss of an epoch at the perturbed weights of its steps.

    Of steps without a perturbation, such as those of a plain base, it is the loss.
    Samples weigh alike.
    """

    begin = before_step = nothing
    # States are kept between epochs, where there are no losses.
    state_dict, load_state_dict = no_state, nothing

    def __init__(self) -> None:
        self._losses: list[Tensor | float] = []

    def before_epoch(self, state: TrainingState) -> None:
        """Begin a mean."""
        self._losses = []

    def after_step(self, state: TrainingState, step: int, loss: Tensor | float) -> None:
        """Note the loss of a step; no device is waited for."""
        optimizer, moved = state.optimizer, None
        if isinstance(optimizer, AbstractOptimizer):
            moved = optimizer.perturbed_loss
        self._losses.append(loss if moved is None else moved)

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Add the mean to the row."""
        sizes = [len(rows) for rows in state.epochs.batches(state.epoch - 1)]
        pairs = zip(sizes, numbers(self._losses), strict=True)
        mean = sum(size * loss for size, loss in pairs) / sum(sizes)
        # All processes have to stop at the same epoch.
        if state.processes.count > 1:
            mean = float(state.processes.mean(mean, state.recipe.device))
        row[PERTURBED] = mean


def stopping_rules(recipe: Recipe, task: AbstractTask) -> dict[str, AbstractCallback]:
    """Rules that a recipe asks for, by name, with the numbers they look at first.

    Raises:
        SettingError: a rule that cannot look at every epoch.
        UnknownNameError: a number that no epoch has.
    """
    rules: dict[str, AbstractCallback] = {}
    bound = Bound.of(recipe, task)
    if bound is not None and bound.monitor.column == PERTURBED:
        rules["perturbed_loss"] = PerturbedLoss()
    if bound is not None:
        rules["stop_at"] = StopAt(bound, go_on=recipe.go_on)
    if recipe.patience is not None:
        monitor = Monitor.of(recipe.monitor, recipe, task)
        rules["patience"] = Patience(monitor, recipe.patience, recipe.min_delta)
    return rules
