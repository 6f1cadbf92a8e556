"""Means over seeds with intervals, and differences between paired runs.

Intervals are two-sided Student t intervals: they hold for means of independent, about
normal values, and are wide for few seeds, as they should be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean and the interval that covers the true one with probability `level`."""

    mean: float
    low: float  # -inf for a single value
    high: float
    count: int  # of seeds
    level: float = LEVEL
    samples: int = 0  # test samples it allows for; 0 when it does not
    p: float = 1.0  # two-sided, of no difference: a mean of 0, or a ratio of 1

    @property
    def half_width(self) -> float:
        """Distance from the mean to either end, on the scale it was made on."""
        return (self.high - self.low) / 2

    def excludes(self, value: float) -> bool:
        """Whether a value lies outside, so that noise alone hardly explains it."""
        return value < self.low or value > self.high


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean of independent values, with a t interval.

    Args:
        values: one per seed; at least one.
        level: coverage, 0 to 1.

    Example:
        >>> interval = mean_interval([1.0, 2.0, 3.0])
        >>> round(interval.mean, 3), round(interval.half_width, 3)
        (2.0, 2.484)
    """
    mean, count = fmean(values), len(values)
    if count < 2:
        return Interval(mean, -math.inf, math.inf, count, level)
    return student(mean, stdev(values) / count**0.5, count - 1, count, level)


def paired_difference(
    left: Sequence[float], right: Sequence[float], level: float = LEVEL
) -> Interval:
    """Mean of left minus right over pairs that share a seed."""
    pairs = zip(left, right, strict=True)
    return mean_interval([a - b for a, b in pairs], level)


def paired_ratio(
    left: Sequence[float], right: Sequence[float], level: float = LEVEL
) -> Interval | None:
    """Geometric mean of left over right over pairs; None unless all are positive."""
    if min(*left, *right) <= 0:
        return None
    logs = [math.log(a / b) for a, b in zip(left, right, strict=True)]
    # Ratios are averaged as logs, where halving and doubling weigh the same.
    interval = mean_interval(logs, level)
    mean, low, high = map(_exp, (interval.mean, interval.low, interval.high))
    return replace(interval, mean=mean, low=low, high=high)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def student(
    mean: float, stderr: float, freedom: float, count: int, level: float
) -> Interval:
    """The t interval of a mean, and the p of a mean of 0.

    Args:
        mean: of the values.
        stderr: its standard error; 0 makes an interval without width.
        freedom: degrees of freedom of the standard error.
        count: of seeds.
        level: coverage, 0 to 1.
    """
    from scipy.special import stdtr, stdtrit

    if stderr == 0:
        return Interval(mean, mean, mean, count, level, p=float(mean == 0))
    width = float(stdtrit(freedom, (1 + level) / 2)) * stderr
    p = 2 * float(stdtr(freedom, -abs(mean) / stderr))
    return Interval(mean, mean - width, mean + width, count, level, p=p)
