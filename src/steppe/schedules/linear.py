"""A line from one value to another."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.schedules.abstract import SCHEDULES, AbstractRamp


@SCHEDULES.add("linear", source="elementary")
@dataclass(frozen=True)
class Linear(AbstractRamp):
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

    def after_warmup(self, step: int) -> float:
        """The value from step `warmup` on."""
        done = self.done(step)
        return self.start + (self.end - self.start) * done
