"""A value that is multiplied at milestones."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import ClassVar

from steppe.errors import SettingError
from steppe.registry.bounds import FINITE, Range, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractWarmedUp


@SCHEDULES.add("multi_step", source="elementary")
@dataclass(frozen=True)
class MultiStep(AbstractWarmedUp):
    """`start`, multiplied by `factor` at each milestone, after a linear warm-up.

    Args:
        start: value when the warm-up is over.
        milestones: steps from which on the value is multiplied once more, ascending.
        factor: what it is multiplied by.
        warmup: steps of the warm-up; 0 for none.
        warmup_start: value at step 0 of a warm-up; None for start / (warmup + 1).
    """

    bounds: ClassVar[Ranges] = {
        **AbstractWarmedUp.warmup_bounds,
        "start": FINITE,
        "milestones": Range(several=True),
        "factor": FINITE,
    }
    times: ClassVar[tuple[str, ...]] = ("milestones", "warmup")

    start: float
    milestones: tuple[int, ...]
    factor: float = 0.1
    warmup: int = 0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.milestones) != sorted(self.milestones):
            raise SettingError(f"milestones must ascend, got {self.milestones}.")

    def after_warmup(self, step: int) -> float:
        """The value from step `warmup` on."""
        passed = bisect.bisect_right(self.milestones, step)
        value: float = self.start * self.factor**passed
        return value
