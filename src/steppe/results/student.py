"""Quantiles of Student's t distribution.

With t = sqrt(v) tan(a), the density of v degrees of freedom is proportional to
cos(a)^(v - 1), which Gauss-Legendre quadrature integrates to rounding.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from steppe.errors import SettingError, check_number

NODES, WEIGHTS = np.polynomial.legendre.leggauss(64)
NORMAL = 1e7  # degrees of freedom from which the two differ by rounding alone


def student_quantile(level: float, freedom: float) -> float:
    """Distance that a t value exceeds with probability 1 - level, in either direction.

    Args:
        level: between 0 and 1, such as 0.95.
        freedom: degrees of freedom, >= 1; infinity for the normal distribution.

    Example:
        >>> round(student_quantile(0.95, 9), 4), round(student_quantile(0.95, 1), 4)
        (2.2622, 12.7062)
    """
    normal = NormalDist().inv_cdf((1 + level) / 2)
    if freedom > NORMAL:
        return normal
    # From the normal quantile on, so that the nodes never miss the peak of the density.
    low, high = 0.0, math.atan(normal / math.sqrt(freedom))
    while _within(high, freedom) < level:
        low, high = high, (high + math.pi / 2) / 2 if high > 0.5 else 2 * high
    while low < (angle := (low + high) / 2) < high:
        if _within(angle, freedom) < level:
            low = angle
        else:
            high = angle
    return math.sqrt(freedom) * math.tan(high)


def check_level(level: float) -> None:
    """Refuse a coverage that is not between 0 and 1.

    Raises:
        SettingError: the level is out of range.
    """
    check_number("level", level, "between 0 and 1")
    if not 0 < level < 1:
        raise SettingError(f"level must be between 0 and 1, such as 0.95, got {level}.")


def _within(angle: float, freedom: float) -> float:
    """Probability that a t value is less than sqrt(v) tan(angle) in magnitude."""
    constant = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)
    places = angle * (NODES + 1) / 2
    cosines = np.log1p(-(np.sin(places) ** 2)) / 2  # logarithms, also close to 1
    density = np.exp((freedom - 1) * cosines + constant)
    return float(angle * (WEIGHTS * density).sum() / math.sqrt(math.pi))
