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
        start: value of the first `k` steps.
        k: steps from one division to the next.
        divisor: number to divide by, >= 1.

    Example:
        >>> [DivideEveryK(1.0, k=2)(t) for t in range(6)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    bounds: ClassVar[Ranges] = {
        "start": FINITE,
        "k": at_least(1),
        "divisor": Range(1.0),
    }
    times: ClassVar[tuple[str, ...]] = ("k",)

    start: float
    k: int
    divisor: float = 2.0

    def __call__(self, step: int) -> float:
        try:
            value: float = self.start / self.divisor ** (max(step, 0) // self.k)
        except OverflowError:  # of the power, long before a training ends
            return 0.0
        return value
