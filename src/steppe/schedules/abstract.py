"""The protocol of schedules, their registry, and the warm-up that several share."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from steppe.errors import SettingError
from steppe.registry.bounds import FINITE, LENGTH, Ranges, at_least, check_bounds
from steppe.registry.composed import register_reader
from steppe.registry.registry import Registry
from steppe.registry.specs import ScheduleSpec


@runtime_checkable
class GroupSchedule(Protocol):
    """A value that follows another entry of a parameter group."""

    @property
    def ends(self) -> tuple[float, float]:
        """Values that it stays between."""

    def of_group(self, step: int, group: Mapping[str, Any]) -> float:
        """The value for step `step` in a group."""


StepSchedule = Callable[[int], float]
Schedule = StepSchedule | GroupSchedule
SCHEDULES: Registry[ScheduleSpec] = Registry("schedule", ScheduleSpec)
register_reader(Schedule, SCHEDULES)


class AbstractRecord:
    """Settings of a schedule, checked when it is made; subclasses are dataclasses."""

    bounds: ClassVar[Ranges]  # of every number among the settings
    times: ClassVar[tuple[str, ...]] = ()  # settings that count steps

    def __post_init__(self) -> None:
        check_bounds(vars(self), self.bounds)


class AbstractWarmedUp(AbstractRecord, ABC):
    """A schedule that begins with a linear warm-up.

    Subclasses are dataclasses with the fields below; those with a length have `steps`.
    """

    start: float
    warmup: int
    warmup_start: float | None

    times: ClassVar[tuple[str, ...]] = ("steps", "warmup")
    warmup_bounds: ClassVar[Ranges] = {
        "warmup": (0.0, math.inf),
        "warmup_start": FINITE,
    }

    def __post_init__(self) -> None:
        super().__post_init__()
        steps = getattr(self, "steps", self.warmup)
        if self.warmup > steps:
            raise SettingError(
                "a schedule needs steps >= 1 and 0 <= warmup <= steps, "
                f"got steps={steps}, warmup={self.warmup}."
            )

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return rise(step, self.warmup, self.warmup_start, self.start)
        return self.after_warmup(step)

    @abstractmethod
    def after_warmup(self, step: int) -> float:
        """The value from step `warmup` on."""


@dataclass(frozen=True)
class AbstractRamp(AbstractWarmedUp):
    """A schedule from `start` to `end` that is over after `steps`, warm-up included."""

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

    def done(self, step: int) -> float:
        """Share of the way from `start` to `end`, in [0, 1]."""
        return fraction(step - self.warmup, self.steps - self.warmup)


@dataclass(frozen=True)
class Warmup(AbstractRecord):
    """Another schedule after a linear warm-up to its value at the end of that.

    Args:
        schedule: gives the values from step `steps` on.
        steps: of the warm-up; 0 for none.
        first: value at step 0; None for the value at the end over steps + 1.

    Example:
        >>> [Warmup(lambda t: 1.0, steps=3)(t) for t in (0, 1, 3, 9)]
        [0.25, 0.5, 1.0, 1.0]
    """

    bounds: ClassVar[Ranges] = {"steps": at_least(0), "first": FINITE}

    schedule: StepSchedule
    steps: int
    first: float | None = None

    def __call__(self, step: int) -> float:
        if step < self.steps:
            return rise(step, self.steps, self.first, self.schedule(self.steps))
        return self.schedule(step)


def rise(step: int, warmup: int, first: float | None, peak: float) -> float:
    """The value at a step of a warm-up, linear in the step.

    Args:
        step: below `warmup`; one below 0 counts as 0.
        warmup: steps of the warm-up.
        first: value at step 0; None for peak / (warmup + 1).
        peak: value at step `warmup`.
    """
    # Without a first value the line starts one step earlier, so that no step is lost.
    if first is None:
        return peak * (max(step, 0) + 1) / (warmup + 1)
    return first + (peak - first) * max(step, 0) / warmup


def fraction(step: int, steps: int) -> float:
    """Completed share of a number of steps, in [0, 1]."""
    return min(max(step / steps, 0.0), 1.0) if steps > 0 else 1.0
