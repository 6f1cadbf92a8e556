"""Values that change with the step: pure functions, clamped at both ends.

A schedule is called with the number t of completed optimizer steps and gives the
value for step t. It holds no state: what is saved is the step.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from dataclasses import dataclass

from steppe.errors import SettingError

Schedule = Callable[[int], float]


@dataclass(frozen=True)
class Cosine:
    """From `start` to `end` along half a cosine, after a linear warm-up from 0.

    Args:
        start: value when the warm-up is over.
        end: value from step `steps` on.
        steps: length of the whole schedule, in optimizer steps, warm-up included.
        warmup: steps of the warm-up; 0 for none.

    Example:
        >>> [Cosine(1.0, 0.0, steps=2)(t) for t in (0, 1, 2, 9)]
        [1.0, 0.5, 0.0, 0.0]
    """

    start: float
    end: float
    steps: int
    warmup: int = 0

    def __post_init__(self) -> None:
        _check_length(self.steps, self.warmup)

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.start * (step + 1) / (self.warmup + 1)
        done = _fraction(step - self.warmup, self.steps - self.warmup)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class CosineIncrease:
    """From `start` up to `factor * start` along half a cosine: LPF-SGD's radius policy.

    Source: Bisla et al., 2022, arXiv:2201.08025, as in the published training script
    (the end value is `factor * start`).

    Args:
        start: value at step 0.
        factor: the end value over the start value.
        steps: length in optimizer steps.
    """

    start: float
    factor: float
    steps: int

    def __post_init__(self) -> None:
        _check_length(self.steps, 0)

    def __call__(self, step: int) -> float:
        rise = (1 - math.cos(math.pi * _fraction(step, self.steps))) / 2
        return self.start * (1 + (self.factor - 1) * rise)


@dataclass(frozen=True)
class MultiStep:
    """`start`, multiplied by `factor` at each milestone, a step number."""

    start: float
    milestones: tuple[int, ...]
    factor: float = 0.1
    warmup: int = 0

    def __post_init__(self) -> None:
        if list(self.milestones) != sorted(self.milestones):
            raise SettingError(f"milestones must ascend, got {self.milestones}.")

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return self.start * (step + 1) / (self.warmup + 1)
        passed = bisect.bisect_right(self.milestones, step)
        value: float = self.start * self.factor**passed
        return value


def _fraction(step: int, steps: int) -> float:
    return min(max(step / steps, 0.0), 1.0) if steps > 0 else 1.0


def _check_length(steps: int, warmup: int) -> None:
    if steps < 1 or not 0 <= warmup <= steps:
        raise SettingError(
            "a schedule needs steps >= 1 and 0 <= warmup <= steps, "
            f"got steps={steps}, warmup={warmup}."
        )
