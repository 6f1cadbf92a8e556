"""Half a cosine from one value to another."""

from __future__ import annotations

import math
from dataclasses import dataclass

from steppe.schedules.abstract import SCHEDULES, AbstractRamp


@SCHEDULES.add("cosine", source="Loshchilov and Hutter, 2017, arXiv:1608.03983")
@dataclass(frozen=True)
class Cosine(AbstractRamp):
    """From `start` to `end` along half a cosine, after a linear warm-up.

    Args:
        start: value when the warm-up is over.
        end: value from step `steps` on.
        steps: length of the whole schedule, in optimizer steps, warm-up included.
        warmup: steps of the warm-up; 0 for none.
        warmup_start: value at step 0 of a warm-up; None for start / (warmup + 1).

    Example:
        >>> [Cosine(1.0, 0.0, steps=2)(t) for t in (0, 1, 2, 9)]
        [1.0, 0.5, 0.0, 0.0]
    """

    def after_warmup(self, step: int) -> float:
        """The value from step `warmup` on."""
        done = self.done(step)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2
