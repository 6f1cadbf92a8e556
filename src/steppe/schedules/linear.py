"""A line from one value to another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steppe.registry.bounds import FINITE, LENGTH, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractWarmedUp, fraction


@SCHEDULES.add("linear", source="elementary")
@dataclass(frozen=True)
class Linear(AbstractWarmedUp):
    """From `start` to `end` along a line, after a linear warm-up.

    Args:
        start: value when the warm-up is over.
        end: value from step `steps` on.
        steps: length of the whole schedule, in optimizer steps, warm-up included.
        warmup: steps of the warm-up; 0 for none.
        warmup_start: value at step 0 of a warm-up; None for start / (warmup + 1).

    Example:
        >>> [Linear(1.0, 0.0, steps=4)(t) for t in (0, 1, 4, 9)]
        [1.0, 0.75, 0.0, 0.0]
    """

    bounds: ClassVar[Ranges] = {
        **AbstractWarmedUp.warmup_bounds,
        "start": FINITE,
        "end": FINITE,
        "steps": LENGTH,
    }

    start: float
    end: float
    steps: int
    warmup: int = 0
    warmup_start: float | None = None

    def after_warmup(self, step: int) -> float:
        """The value from step `warmup` on."""
        done = fraction(step - self.warmup, self.steps - self.warmup)
        return self.start + (self.end - self.start) * done
