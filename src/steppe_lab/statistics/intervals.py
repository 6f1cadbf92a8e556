"""Means over seeds with intervals, and differences between paired runs.

All intervals are two-sided Student t intervals: they hold for means of independent,
about normal values, and are wide for few seeds, as they should be.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
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
        >>> found = mean_interval([1.0, 2.0, 3.0])
        >>> round(found.mean, 3), round(found.half_width, 3)
        (2.0, 2.484)
    """
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, -math.inf, math.inf, len(values), level)
    width = _t_quantile(level, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - width, mean + width, len(values), level)


def paired_difference(
    left: Sequence[float], right: Sequence[float], level: float = LEVEL
) -> Interval:
    """Mean of left minus right over pairs that share a seed."""
    pairs = zip(left, right, strict=True)
    return mean_interval([a - b for a, b in pairs], level)


def error_difference(
    left: Sequence[Collection[int]],
    right: Sequence[Collection[int]],
    samples: int,
    level: float = LEVEL,
) -> Interval:
    """Difference of error rates, left minus right, for new seeds and new samples.

    Pairs share a seed, and all networks share the test samples. The variance is that
    of the difference between seeds plus that of the mean difference between samples,
    each over its number, so that a few samples cannot make a difference clear however
    much the seeds agree. The second part contains some of the first: it errs wide.

    Args:
        left: positions of the wrongly classified test samples, one set per seed.
        right: likewise, in the order of the same seeds.
        samples: test samples in all.
        level: coverage, 0 to 1.
    """
    pairs = list(zip(left, right, strict=True))
    over_seeds = mean_interval([(len(a) - len(b)) / samples for a, b in pairs], level)
    seeds, mean = over_seeds.count, over_seeds.mean
    balance: Counter[int] = Counter()
    for a, b in pairs:
        balance.update(a)
        balance.subtract(b)
    squares = sum((n / seeds) ** 2 for n in balance.values())
    variance = (squares - samples * mean**2) / max(samples - 1, 1)
    z = _t_quantile(level, max(samples - 1, 1))
    width = math.hypot(over_seeds.half_width, z * math.sqrt(variance / samples))
    return Interval(mean, mean - width, mean + width, seeds, level, samples)


def paired_ratio(
    left: Sequence[float], right: Sequence[float], level: float = LEVEL
) -> Interval | None:
    """Geometric mean of left over right over pairs; None unless all are positive."""
    if min(*left, *right) <= 0:
        return None
    logs = [math.log(a / b) for a, b in zip(left, right, strict=True)]
    found = mean_interval(logs, level)
    low, high = (_exp(found.low), _exp(found.high))
    return Interval(math.exp(found.mean), low, high, found.count, level)


def _exp(value: float) -> float:
    return math.exp(value) if value < 700 else math.inf


def _t_quantile(level: float, freedom: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + level) / 2))
