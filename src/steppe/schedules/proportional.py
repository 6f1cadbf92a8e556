"""A value that follows the learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.errors import SettingError
from steppe.registry.bounds import FINITE, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractRecord


@SCHEDULES.add("proportional", source="Zhuang et al., 2022, arXiv:2203.08065")
@dataclass(frozen=True)
class Proportional(AbstractRecord):
    """A value that follows the learning rate of each parameter group.

    It is min_value + (max_value - min_value) (lr - min_lr) / (max_lr - min_lr), kept
    between the two values, with the learning rate of the step it is used in; with
    max_lr = min_lr it is max_value.

    Source: Zhuang et al., 2022, arXiv:2203.08065, Section 4.2.

    Args:
        max_value: value at max_lr and above.
        min_value: value at min_lr and below, <= max_value.
        max_lr: the highest learning rate.
        min_lr: the lowest one, <= max_lr.

    Example:
        >>> rho = Proportional(0.6, 0.1, max_lr=0.1)
        >>> rho.of_group(0, {"lr": 0.05})
        0.35
    """

    bounds: ClassVar[Ranges] = {
        "max_value": FINITE,
        "min_value": FINITE,
        "max_lr": FINITE,
        "min_lr": FINITE,
    }

    max_value: float
    min_value: float
    max_lr: float
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("value", "lr"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if not low <= high:
                rule = f"min_{name} must be <= max_{name}"
                raise SettingError(f"{rule}, got {low} and {high}.")

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return self.min_value, self.max_value

    def of_group(self, step: int, group: Mapping[str, Any]) -> float:
        """The value at the learning rate that a group has now."""
        del step
        if "lr" not in group:
            raise SettingError(
                "Proportional follows the learning rate, but a parameter group has no "
                "lr; take another schedule."
            )
        if self.max_lr == self.min_lr:
            return self.max_value
        lr = min(max(float(group["lr"]), self.min_lr), self.max_lr)
        share = (lr - self.min_lr) / (self.max_lr - self.min_lr)
        return self.min_value + (self.max_value - self.min_value) * share
