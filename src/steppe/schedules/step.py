"""A value that falls at fixed shares of the training."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import ClassVar

from steppe.errors import SettingError
from steppe.registry.bounds import FINITE, LENGTH, Range, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractWarmedUp


@SCHEDULES.add("step", source="elementary")
@dataclass(frozen=True)
class Step(AbstractWarmedUp):
    """`start`, multiplied by `factor` at each of some shares of the training.

    Args:
        start: value when the warm-up is over.
        steps: length of the training, in optimizer steps, warm-up included.
        factor: what it is multiplied by.
        shares: of the training, in [0, 1] and ascending, after which it is multiplied.
        warmup: steps of the warm-up; 0 for none.
        warmup_start: value at step 0 of a warm-up; None for start / (warmup + 1).

    Example:
        >>> [Step(1.0, steps=8, factor=0.5)(t) for t in (0, 3, 4, 5, 6, 9)]
        [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]
    """

    bounds: ClassVar[Ranges] = {
        **AbstractWarmedUp.warmup_bounds,
        "start": FINITE,
        "steps": LENGTH,
        "factor": FINITE,
        "shares": Range(0.0, 1.0, several=True),
    }

    start: float
    steps: int
    factor: float = 0.1
    shares: tuple[float, ...] = (0.5, 0.75)
    warmup: int = 0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.shares) != sorted(self.shares):
            raise SettingError(f"shares must ascend, got {self.shares}.")

    def after_warmup(self, step: int) -> float:
        """The value from step `warmup` on."""
        # 0.29 * 100 is below 29 in floats.
        milestones = [int(share * self.steps + 1e-9) for share in self.shares]
        value: float = self.start * self.factor ** bisect.bisect_right(milestones, step)
        return value
