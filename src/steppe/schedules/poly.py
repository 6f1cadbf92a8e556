"""GSAM's polynomial."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from steppe.registry.bounds import FINITE, LENGTH, Ranges
from steppe.schedules.abstract import SCHEDULES, AbstractWarmedUp


@SCHEDULES.add("poly", source="Zhuang et al., 2022, arXiv:2203.08065")
@dataclass(frozen=True)
class Poly(AbstractWarmedUp):
    """GSAM's polynomial: end + (start - end) (t - W)^order, after a linear warm-up.

    It stays at its value of step `steps`, which is above `end`.

    Source: Zhuang et al., 2022, arXiv:2203.08065, as in the authors' PyTorch code,
    which gives `start` at t = W, where the power has no value.

    Args:
        start: value when the warm-up is over, and one step later.
        end: limit for ever more steps.
        steps: length of the whole schedule, in optimizer steps, warm-up included.
        order: exponent, <= 0; 0 keeps `start`.
        warmup: W, steps of the warm-up; 0 for none.
        warmup_start: value at step 0 of a warm-up; None for start / (warmup + 1).

    Example:
        >>> [round(Poly(1.0, 0.0, steps=4)(t), 3) for t in (0, 1, 2, 4, 9)]
        [1.0, 1.0, 0.707, 0.5, 0.5]
    """

    bounds: ClassVar[Ranges] = {
        **AbstractWarmedUp.warmup_bounds,
        "start": FINITE,
        "end": FINITE,
        "steps": LENGTH,
        "order": (-math.inf, 0.0),
    }

    start: float
    end: float
    steps: int
    order: float = -0.5
    warmup: int = 0
    warmup_start: float | None = None

    def after_warmup(self, step: int) -> float:
        """The value from step `warmup` on."""
        since = min(step, self.steps) - self.warmup
        power: float = max(since, 1) ** self.order
        return self.end + (self.start - self.end) * power
