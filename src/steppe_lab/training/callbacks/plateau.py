"""The learning rate that drops when a monitored number no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from torch.optim import Optimizer

from steppe.errors import SettingError
from steppe.parameters import forget_derived
from steppe_lab.training.callbacks.abstract import AbstractCallback, nothing
from steppe_lab.training.callbacks.monitor import Monitor
from steppe_lab.training.plateau import Plateau, Stall
from steppe_lab.training.recipe import Recipe

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState


class LrPlateau(AbstractCallback):
    """Multiplies the learning rate of the state when a number stalls.

    The best weights are put in place before the first step at the lower rate, so that
    all that is written about an epoch is about its own weights. An average of the
    weights goes on, and so do the clock and the random numbers of the method.

    Args:
        rule: when to drop, and what goes along.
        monitor: the number to look at.
        recipe: of the training.
        optimizer: whose setting goes along.
    """

    begin = before_step = after_step = nothing

    def __init__(
        self, rule: Plateau, monitor: Monitor, recipe: Recipe, optimizer: Optimizer
    ) -> None:
        self._rule, self._monitor = rule, monitor
        self._stall = Stall(rule, monitor.better)
        self._key = ""
        if rule.scales:
            self._key = scaled_key(rule.scales, recipe, optimizer)
        groups = optimizer.param_groups if self._key else []
        self._unscaled = [float(group[self._key]) for group in groups]
        self._best = float("nan")  # of the weights below
        self._weights: dict[str, Any] = {}
        self._moments: list[Any] = []
        self._reload = False  # before the next epoch

    def before_epoch(self, state: TrainingState) -> None:
        """Put the best weights in place where the rate has dropped."""
        if self._reload:
            self._reload = False
            state.model.load_state_dict(self._weights)
            forget_derived()
            for base, moments in zip(_bases(state.optimizer), self._moments):
                groups = base.state_dict()["param_groups"]
                base.load_state_dict({"state": moments, "param_groups": groups})

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Look at the number of the epoch; the setting that goes along joins the row.

        An epoch without the number, of an average that holds nothing yet, is passed.
        """
        if self._key:
            row[self._rule.scales] = float(state.optimizer.param_groups[0][self._key])
        value = self._monitor.value(row)
        if value is None:
            return
        if self._rule.reload_best and self._monitor.is_better(value, self._best):
            self._keep(state, value)
        lr = float(state.recipe.base.settings["lr"]) * state.lr_scale
        if not self._stall.drops(value) or self._rule.lower(lr) == lr:
            return
        state.lr_scale *= self._rule.lower(lr) / lr
        self._reload = self._rule.reload_best
        for group, start in zip(state.optimizer.param_groups, self._unscaled):
            group[self._key] = start * state.lr_scale

    def state_dict(self) -> dict[str, Any]:
        """How long the number has stalled, and the best weights."""
        return {
            "stall": self._stall.state_dict(),
            "best": self._best,
            "weights": self._weights,
            "moments": self._moments,
            "reload": self._reload,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the values of `state_dict`."""
        self._stall.load_state_dict(state["stall"])
        self._best, self._reload = state["best"], state["reload"]
        self._weights, self._moments = state["weights"], state["moments"]

    def _keep(self, state: TrainingState, value: float) -> None:
        self._best, self._weights = value, deepcopy(state.model.state_dict())
        if self._rule.with_optimizer:
            bases = _bases(state.optimizer)
            self._moments = [deepcopy(base.state_dict()["state"]) for base in bases]


def scaled_key(name: str, recipe: Recipe, optimizer: Optimizer) -> str:
    """Key of a setting of the method in the groups of its optimizer.

    Raises:
        SettingError: the method has no such setting, or one that is no number.
    """
    group = optimizer.param_groups[0]
    settings = recipe.optimizer.settings if recipe.optimizer else {}
    # The plain key may be of the base, as RMSprop's alpha is: the method's own wins.
    keys = {
        each: key
        for each, value in settings.items()
        for key in (each, f"steppe_{each}")
        if key in group and type(value) is float
    }
    if name not in keys:
        known = ", ".join(sorted(keys)) or "none"
        raise SettingError(
            f"scales of plateau must be a setting of {recipe.label} that is one number "
            f"({known}), got '{name}'; choose one of those or leave it out."
        )
    return keys[name]


def _bases(optimizer: Optimizer) -> Sequence[Optimizer]:
    """Optimizers that hold momentum and moments."""
    return getattr(optimizer, "bases", (optimizer,))
