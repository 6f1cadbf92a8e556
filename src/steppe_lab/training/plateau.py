"""A learning rate that drops when a monitored number no longer gets better.

It is no schedule: the rate follows the training, not the step. The text is that of a
schedule all the same, "plateau(factor=0.1, patience=200)".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges, at_least, check_bounds
from steppe.registry.composed import read_part, register_reader
from steppe.registry.registry import Registry
from steppe.registry.settings_text import built, called
from steppe.registry.specs import Spec

LR_RULES: Registry[Spec] = Registry("learning rate rule", Spec)


@LR_RULES.add("plateau", source="PyTorch, torch.optim.lr_scheduler.ReduceLROnPlateau")
@dataclass(frozen=True)
class Plateau:
    """The rate of the base, multiplied by `factor` whenever progress stalls.

    Args:
        factor: of the learning rate at a drop, in (0, 1).
        patience: epochs in a row that may pass without a better value before a drop.
        threshold: by how much a value must be better to count, >= 0.
        threshold_mode: whether the threshold is a share of the best value, or a
            difference from it.
        cooldown: epochs after a drop that do not count.
        min_lr: rate that no drop goes below, >= 0.
        scales: setting of the method that is multiplied along, such as the gamma of
            nsgd; "" for none.
        reload_best: whether training goes on from the best weights at a drop.
        with_optimizer: whether momentum and moments of the base are then those of the
            best epoch too; else they stay.
    """

    bounds: ClassVar[Ranges] = {
        "factor": Range(0.0, 1.0, above=True, below=True),
        "patience": at_least(0),
        "threshold": (0.0, math.inf),
        "cooldown": at_least(0),
        "min_lr": (0.0, math.inf),
    }

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: Literal["rel", "abs"] = "rel"
    cooldown: int = 0
    min_lr: float = 0.0
    scales: str = ""
    reload_best: bool = False
    with_optimizer: bool = False

    def __post_init__(self) -> None:
        check_bounds(vars(self), self.bounds)
        if self.with_optimizer and not self.reload_best:
            raise SettingError(
                "with_optimizer of plateau belongs to reload_best=true, got "
                "reload_best=false; give both, or leave both out."
            )

    def is_better(self, value: float, best: float, better: str) -> bool:
        """Whether a value is better than the best one by more than the threshold.

        Args:
            value: of this epoch.
            best: of the epochs before.
            better: which values are, "smaller" or "larger".
        """
        sign = -1 if better == "smaller" else 1
        if self.threshold_mode == "rel":
            bar = best * (1 + sign * self.threshold)
        else:
            bar = best + sign * self.threshold
        return value < bar if better == "smaller" else value > bar

    def lower(self, lr: float) -> float:
        """The rate after a drop."""
        return min(lr, max(lr * self.factor, self.min_lr))


@dataclass
class Stall:
    """Counts the epochs without a better value, as torch's scheduler does.

    Args:
        rule: says when to drop.
        better: which values are, "smaller" or "larger".
    """

    rule: Plateau
    better: str
    best: float = field(init=False)  # infinitely bad before the first value
    waited: int = 0  # epochs since the best one
    cooling: int = 0  # epochs left that do not count

    def __post_init__(self) -> None:
        self.best = math.inf if self.better == "smaller" else -math.inf

    def drops(self, value: float) -> bool:
        """Count an epoch; True where the rate drops after it."""
        if self.rule.is_better(value, self.best, self.better):
            self.best, self.waited = value, 0
        else:
            self.waited += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.waited = 0
        if self.waited <= self.rule.patience:
            return False
        self.waited, self.cooling = 0, self.rule.cooldown
        return True

    def state_dict(self) -> dict[str, Any]:
        """Numbers to go on from after a stop."""
        return {k: v for k, v in vars(self).items() if k not in ("rule", "better")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from the numbers of `state_dict`."""
        vars(self).update(state)


def read_plateau(text: str) -> str | None:
    """The text of a rule with its names, types and ranges checked; None if it is none.

    Example:
        >>> read_plateau("plateau(patience=5,factor=0.10)"), read_plateau("cosine")
        ('plateau(patience=5)', None)
    """
    if called(text)[0] not in LR_RULES:
        return None
    canonical = read_part(LR_RULES, text, ())
    return None if canonical is None else canonical.removesuffix("()")


def plateau_of(text: str) -> Plateau | None:
    """The rule that the text of a learning rate names; None for a schedule."""
    canonical = read_plateau(text)
    return None if canonical is None else built(canonical, Plateau, {})


register_reader(Plateau, LR_RULES)
