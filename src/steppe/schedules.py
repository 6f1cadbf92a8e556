"""Values that change with the step: pure functions, clamped at both ends.

A schedule is called with the number t of completed optimizer steps and gives the value
for step t. It holds no state: what is saved is the step. A function `t -> value` is a
schedule too. A warm-up of W steps rises evenly, from `warmup_start` at t = 0, or from
start / (W + 1) where that is None, to `start` at t = W.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from steppe.errors import SettingError, check_numbers
from steppe.registry.composed import register_reader
from steppe.registry.registry import Registry
from steppe.registry.specs import Spec


@runtime_checkable
class GroupSchedule(Protocol):
    """A value that follows what else is in a parameter group."""

    @property
    def ends(self) -> tuple[float, float]:
        """Values that it stays between."""

    def of_group(self, step: int, group: Mapping[str, Any]) -> float:
        """The value for step `step` in a group."""


StepSchedule = Callable[[int], float]
Schedule = StepSchedule | GroupSchedule
SCHEDULES: Registry[Spec] = Registry("schedule", Spec)
register_reader(Schedule, SCHEDULES)


@SCHEDULES.add("constant", source="elementary")
@dataclass(frozen=True)
class Constant:
    """The same value in every step."""

    value: float

    def __call__(self, step: int) -> float:
        del step
        return self.value


@SCHEDULES.add("linear", source="elementary")
@dataclass(frozen=True)
class Linear:
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

    start: float
    end: float
    steps: int
    warmup: int = 0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        _check_length(self.steps, self.warmup)

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return _rise(step, self.warmup, self.warmup_start, self.start)
        done = _fraction(step - self.warmup, self.steps - self.warmup)
        return self.start + (self.end - self.start) * done


@SCHEDULES.add("cosine", source="Loshchilov and Hutter, 2017, arXiv:1608.03983")
@dataclass(frozen=True)
class Cosine:
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

    start: float
    end: float
    steps: int
    warmup: int = 0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        _check_length(self.steps, self.warmup)

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return _rise(step, self.warmup, self.warmup_start, self.start)
        done = _fraction(step - self.warmup, self.steps - self.warmup)
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2


@SCHEDULES.add("cosine_increase", source="Bisla et al., 2022, arXiv:2201.08025")
@dataclass(frozen=True)
class CosineIncrease:
    """From `start` up to `factor * start` along half a cosine: the radius of LPF-SGD.

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
        check_numbers(vars(self))
        _check_length(self.steps, 0)

    def __call__(self, step: int) -> float:
        rise = (1 - math.cos(math.pi * _fraction(step, self.steps))) / 2
        return self.start * (1 + (self.factor - 1) * rise)


@SCHEDULES.add("multi_step", source="elementary")
@dataclass(frozen=True)
class MultiStep:
    """`start`, multiplied by `factor` at each milestone, after a linear warm-up.

    Args:
        start: value when the warm-up is over.
        milestones: steps from which on the value is multiplied once more, ascending.
        factor: what it is multiplied by.
        warmup: steps of the warm-up; 0 for none.
        warmup_start: value at step 0 of a warm-up; None for start / (warmup + 1).
    """

    start: float
    milestones: tuple[int, ...]
    factor: float = 0.1
    warmup: int = 0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        if list(self.milestones) != sorted(self.milestones):
            raise SettingError(f"milestones must ascend, got {self.milestones}.")

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return _rise(step, self.warmup, self.warmup_start, self.start)
        passed = bisect.bisect_right(self.milestones, step)
        value: float = self.start * self.factor**passed
        return value


@SCHEDULES.add("scoping", source="Chaudhari et al., 2017, arXiv:1611.01838")
@dataclass(frozen=True)
class Scoping:
    """Entropy-SGD's gamma: start (1 + rate)^t, up to a maximum.

    Args:
        start: value at step 0, > 0.
        rate: relative growth per step, >= 0; 0 keeps `start`.
        maximum: where the growth ends, >= start; None for nowhere.

    Example:
        >>> [Scoping(0.5, 1.0, maximum=3.0)(t) for t in range(4)]
        [0.5, 1.0, 2.0, 3.0]
    """

    start: float
    rate: float
    maximum: float | None = None

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        if not (self.start > 0 and self.rate >= 0):
            raise SettingError(
                "a scoping needs start > 0 and rate >= 0, "
                f"got start={self.start}, rate={self.rate}."
            )
        if self.maximum is not None and not self.maximum >= self.start:
            raise SettingError(
                f"maximum must be >= start, got {self.maximum} and {self.start}."
            )

    def __call__(self, step: int) -> float:
        top = math.inf if self.maximum is None else self.maximum
        try:
            grown: float = self.start * (1 + self.rate) ** step
        except OverflowError:
            grown = math.inf
        return min(grown, top)


@SCHEDULES.add("poly", source="Zhuang et al., 2022, arXiv:2203.08065")
@dataclass(frozen=True)
class Poly:
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

    start: float
    end: float
    steps: int
    order: float = -0.5
    warmup: int = 0
    warmup_start: float | None = None

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        _check_length(self.steps, self.warmup)
        if not self.order <= 0:
            raise SettingError(f"order must be <= 0, got {self.order}.")

    def __call__(self, step: int) -> float:
        if step < self.warmup:
            return _rise(step, self.warmup, self.warmup_start, self.start)
        since = min(step, self.steps) - self.warmup
        power: float = max(since, 1) ** self.order
        return self.end + (self.start - self.end) * power


@SCHEDULES.add("proportional", source="Zhuang et al., 2022, arXiv:2203.08065")
@dataclass(frozen=True)
class Proportional:
    """A value that follows the learning rate of each parameter group.

    It is min_value + (max_value - min_value) (lr - min_lr) / (max_lr - min_lr), kept
    between the two values, with the learning rate of the step it is used in; with
    max_lr = min_lr it is max_value.

    Source: Zhuang et al., 2022, arXiv:2203.08065, Section 4.2.

    Args:
        max_value: value at max_lr and above.
        min_value: value at min_lr and below, <= max_value.
        max_lr: the highest learning rate.
        min_lr: the lowest one, <= max_lr.

    Example:
        >>> rho = Proportional(0.6, 0.1, max_lr=0.1)
        >>> rho.of_group(0, {"lr": 0.05})
        0.35
    """

    max_value: float
    min_value: float
    max_lr: float
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        check_numbers(vars(self))
        for name in ("value", "lr"):
            low, high = getattr(self, f"min_{name}"), getattr(self, f"max_{name}")
            if not low <= high:
                rule = f"min_{name} must be <= max_{name}"
                raise SettingError(f"{rule}, got {low} and {high}.")

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest value."""
        return self.min_value, self.max_value

    def of_group(self, step: int, group: Mapping[str, Any]) -> float:
        """The value at the learning rate that a group has now."""
        del step
        if "lr" not in group:
            raise SettingError(
                "Proportional follows the learning rate, but a parameter group has no "
                "lr; take another schedule."
            )
        if self.max_lr == self.min_lr:
            return self.max_value
        lr = min(max(float(group["lr"]), self.min_lr), self.max_lr)
        share = (lr - self.min_lr) / (self.max_lr - self.min_lr)
        return self.min_value + (self.max_value - self.min_value) * share


@dataclass(frozen=True)
class Lagging:
    """Another schedule one step late, after a value of its own at step 0.

    Args:
        schedule: gives the value of step t in step t + 1.
        first: value at step 0.
    """

    schedule: StepSchedule
    first: float

    def __call__(self, step: int) -> float:
        return self.first if step <= 0 else self.schedule(step - 1)


@dataclass(frozen=True)
class _Line:
    """A linear function of another schedule."""

    schedule: StepSchedule
    offset: float
    slope: float

    def __call__(self, step: int) -> float:
        return self.offset + self.slope * self.schedule(step)


def published_gsam(
    lr: StepSchedule,
    *,
    max_lr: float,
    min_lr: float,
    max_rho: float,
    min_rho: float,
) -> tuple[StepSchedule, StepSchedule]:
    """Learning rate and radius as the authors' PyTorch code of GSAM runs them.

    Step 0 has the learning rate max_lr, which the base was made with, and the radius
    that belongs to a learning rate of 0, below min_rho where min_lr > 0; every later
    step t has both of step t - 1. To compare with published runs only: `lr` and
    `Proportional` have the values of step t in step t, and no radius out of its range.

    Source: Zhuang et al., 2022, arXiv:2203.08065, the schedulers of the authors' code
    in the order of its training script.

    Args:
        lr: the learning rate as it is meant, such as `Linear` with `warmup_start=0.0`;
            beyond its last step it stays, where the authors' line falls below 0.
        max_lr: highest learning rate, and that of the base optimizer.
        min_lr: lowest learning rate, where the radius is min_rho; below max_lr.
        max_rho: radius at max_lr.
        min_rho: radius at min_lr.

    Returns:
        Schedules of the learning rate and of the radius.
    """
    if not min_lr < max_lr:
        raise SettingError(f"min_lr must be < max_lr, got {min_lr} and {max_lr}.")
    slope = (max_rho - min_rho) / (max_lr - min_lr)
    rho = _Line(lr, min_rho - slope * min_lr, slope)
    return Lagging(lr, max_lr), Lagging(rho, rho.offset)


def _rise(step: int, warmup: int, first: float | None, peak: float) -> float:
    if first is None:
        return peak * (max(step, 0) + 1) / (warmup + 1)
    return first + (peak - first) * max(step, 0) / warmup


def _fraction(step: int, steps: int) -> float:
    return min(max(step / steps, 0.0), 1.0) if steps > 0 else 1.0


def _check_length(steps: int, warmup: int) -> None:
    if steps < 1 or not 0 <= warmup <= steps:
        raise SettingError(
            "a schedule needs steps >= 1 and 0 <= warmup <= steps, "
            f"got steps={steps}, warmup={warmup}."
        )
