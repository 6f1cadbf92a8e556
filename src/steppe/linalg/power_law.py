"""Power laws in the tail of a sample, by maximum likelihood.

Source: Clauset, Shalizi and Newman, 2009, arXiv:0706.1062, section 3: the exponent
of largest likelihood, its error, and the distance of Kolmogorov and Smirnov.

Shape letters: n numbers of a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe.errors import DataError


@dataclass(frozen=True)
class PowerLawTail:
    """The part of a sample from `start` on, with a density like x ** -exponent."""

    exponent: float
    start: float  # its smallest number, "x_min"
    points: int  # numbers in it
    distance: float  # of Kolmogorov and Smirnov, between the tail and the power law

    @property
    def stderr(self) -> float:
        """Of the exponent, for independent numbers and a known start."""
        return (self.exponent - 1) / math.sqrt(self.points)


def fit_tail(sample: NDArray[np.float64]) -> PowerLawTail:
    """The tail that is closest to a power law.

    Every number but the largest may be its start. Each start has the exponent of the
    largest likelihood, and the one of the smallest distance is taken. The distance is
    that of the reference code: the share of smaller numbers stands for the empirical
    distribution.

    Args:
        sample: positive numbers, shape (n,), in any order.

    Raises:
        DataError: fewer than two different positive numbers.
    """
    numbers = np.sort(np.asarray(sample, dtype=np.float64))
    if len(numbers) < 2 or not numbers[0] > 0 or numbers[0] == numbers[-1]:
        raise DataError(
            "a power law is fitted to at least two different positive numbers, got "
            f"{len(numbers)} numbers; leave zeros out."
        )
    logs = np.log(numbers)
    # Equal numbers are one start: the tail from it on has all of them.
    starts = np.unique(numbers, return_index=True)[1][:-1]
    tails = [_tail(numbers, logs, int(start)) for start in starts]
    return min(tails, key=lambda tail: tail.distance)


def _tail(
    numbers: NDArray[np.float64], logs: NDArray[np.float64], start: int
) -> PowerLawTail:
    heights = logs[start:] - logs[start]
    points = len(heights)
    decay = points / float(heights.sum())
    smaller = np.arange(points) / points
    distance = float(np.abs(-np.expm1(-decay * heights) - smaller).max())
    return PowerLawTail(1 + decay, float(numbers[start]), points, distance)
