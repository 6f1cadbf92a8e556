"""Half a cosine up to a multiple of the first value."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from steppe.registry.bounds import FINITE, LENGTH, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractRecord, fraction


@SCHEDULES.add("cosine_increase", source="Bisla et al., 2022, arXiv:2201.08025")
@dataclass(frozen=True)
class CosineIncrease(AbstractRecord):
    """From `start` up to `factor * start` along half a cosine: the radius of LPF-SGD.

    Source: Bisla et al., 2022, arXiv:2201.08025, as in the published training script
    (the end value is `factor * start`).

    Args:
        start: value at step 0.
        factor: the end value over the start value.
        steps: length in optimizer steps.
    """

    bounds: ClassVar[Ranges] = {"start": FINITE, "factor": FINITE, "steps": LENGTH}
    times: ClassVar[tuple[str, ...]] = ("steps",)

    start: float
    factor: float
    steps: int

    def __call__(self, step: int) -> float:
        rise = (1 - math.cos(math.pi * fraction(step, self.steps))) / 2
        return self.start * (1 + (self.factor - 1) * rise)
