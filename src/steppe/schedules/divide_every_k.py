"""A value that is divided at regular times."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steppe.registry.bounds import FINITE, Range, Ranges, at_least
from steppe.schedules.abstract import SCHEDULES, AbstractRecord


@SCHEDULES.add(
    "divide_every_k", source="Jastrzebski et al., 2019, arXiv:1807.05031, VGG-11"
)
@dataclass(frozen=True)
class DivideEveryK(AbstractRecord):
    """`start`, divided by `divisor` once more after every `k` steps.

    Args:
        start: value before the first division.
        k: steps from one division to the next.
        divisor: number to divide by, >= 1.
        first: step of the first division; None for `k`.

    Example:
        >>> [DivideEveryK(1.0, k=2)(t) for t in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
        >>> [DivideEveryK(1.0, k=1, first=4)(t) for t in range(6)]
        [1.0, 1.0, 1.0, 1.0, 0.5, 0.25]
    """

    bounds: ClassVar[Ranges] = {
        "start": FINITE,
        "k": at_least(1),
        "divisor": Range(1.0),
        "first": at_least(1),
    }
    times: ClassVar[tuple[str, ...]] = ("k", "first")

    start: float
    k: int
    divisor: float = 2.0
    first: int | None = None

    def __call__(self, step: int) -> float:
        first = self.k if self.first is None else self.first
        divisions = max((step - first) // self.k + 1, 0)
        try:
            value: float = self.start / self.divisor**divisions
        except OverflowError:  # of the power, long before a training ends
            return 0.0
        return value
