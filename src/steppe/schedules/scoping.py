"""Entropy-SGD's growing gamma."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from steppe.errors import SettingError
from steppe.registry.bounds import FINITE, POSITIVE, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractRecord


@SCHEDULES.add("scoping", source="Chaudhari et al., 2017, arXiv:1611.01838")
@dataclass(frozen=True)
class Scoping(AbstractRecord):
    """Entropy-SGD's gamma: start (1 + rate)^t, up to a maximum.

    Args:
        start: value at step 0, > 0.
        rate: relative growth per step, >= 0; 0 keeps `start`.
        maximum: where the growth ends, >= start; None for nowhere.

    Example:
        >>> [Scoping(0.5, 1.0, maximum=3.0)(t) for t in range(4)]
        [0.5, 1.0, 2.0, 3.0]
    """

    bounds: ClassVar[Ranges] = {
        "start": POSITIVE,
        "rate": (0.0, math.inf),
        "maximum": FINITE,
    }

    start: float
    rate: float
    maximum: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.maximum is not None and not self.maximum >= self.start:
            raise SettingError(
                f"maximum must be >= start, got {self.maximum} and {self.start}."
            )

    def __call__(self, step: int) -> float:
        top = math.inf if self.maximum is None else self.maximum
        try:
            grown: float = self.start * (1 + self.rate) ** step
        except OverflowError:
            grown = math.inf
        return min(grown, top)
