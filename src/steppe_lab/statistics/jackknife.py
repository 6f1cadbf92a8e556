"""Intervals from the values of a statistic without each configuration in turn.

In 1,000 synthetic studies each of 30 to 1,000 rows with 1 to 5 seeds, of normal values
with a tau of 0, 0.4 and 0.8, with ties and without (66 settings), intervals of 95 %
covered 93.2 to 97.4 %, and tests at 5 % rejected a tau of 0 in 3.6 to 6.6 %. In 600
studies each of 30 and 100 rows (32 settings), where these covered 93.2 to 97.3 %, those
from quantiles of 400 bootstrap draws covered 91.3 to 97.5 %, BCa 90.5 to 97.7 %, basic
ones of Fisher's z 89.7 to 98.8 %, and Student's with the standard error of the draws on
the scales of z and of the arcsine 93.8 to 99.2 % and 92.7 to 98.5 %.

Source: Efron and Stein, 1981, "The jackknife estimate of variance"; the arcsine makes
the variance of a correlation about independent of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from steppe_lab.statistics.tables import Floats


@dataclass(frozen=True)
class Ends:
    """An interval, and the p of a true value of 0."""

    low: float
    high: float
    p: float


NONE = Ends(math.nan, math.nan, math.nan)
UNKNOWN = Ends(-1.0, 1.0, 1.0)  # of a correlation that data too few say nothing of


def stderr(left_out: Floats) -> float:
    """Standard error of a statistic.

    Args:
        left_out: its value without each of K configurations, shape (K,).
    """
    k = len(left_out)
    return math.sqrt((k - 1) / k * float(np.square(left_out - left_out.mean()).sum()))


def of_correlation(value: float, left_out: Floats, level: float, lost: int = 0) -> Ends:
    """Interval of a correlation, symmetric on the scale of its arcsine.

    Quantiles are those of Student's t with K - 1 degrees of freedom. Where all pairs
    agree there is no spread to learn from; of floor(K / 2) pairs without a common
    configuration, which are independent, all agree, and the end of the interval is
    that of their binomial share.

    Args:
        value: of all configurations, -1 to 1.
        left_out: its value without each of K configurations, shape (K,).
        level: coverage, 0 to 1.
        lost: degrees of freedom that a model took from the data before.
    """
    from scipy.special import stdtr, stdtrit

    k, freedom = len(left_out), len(left_out) - 1 - lost
    if math.isnan(value):
        return NONE
    if abs(value) == 1:
        return of_agreement(value, (k - lost) // 2, level)
    if freedom < 1 or not np.isfinite(left_out).all():
        return UNKNOWN
    # A model with `lost` coefficients leaves less spread than there was.
    error = stderr(left_out) * math.sqrt((k - 1) / freedom) / math.sqrt(1 - value**2)
    if error == 0:
        return UNKNOWN
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    centre, right = math.asin(value), math.pi / 2
    low, high = max(centre - half, -right), min(centre + half, right)
    p = 2 * float(stdtr(freedom, -abs(centre) / error))
    return Ends(math.sin(low), math.sin(high), p)


def of_agreement(value: float, independent: int, level: float) -> Ends:
    """Interval of a tau of 1 or -1: all independent pairs of rows agree.

    Args:
        value: 1 or -1.
        independent: number of pairs.
        level: coverage, 0 to 1.
    """
    if independent < 1:
        return UNKNOWN
    share = ((1 - level) / 2) ** (1 / independent)  # of agreeing pairs, at least
    end, p = 2 * share - 1, min(2 * 0.5**independent, 1.0)
    return Ends(end, 1.0, p) if value > 0 else Ends(-1.0, -end, p)


def of_mean(
    value: float, error: float, freedom: int, level: float, low: float, high: float
) -> Ends:
    """Student's t interval of a mean, between the ends of its range.

    Args:
        value: of the mean.
        error: its standard error.
        freedom: degrees of freedom of the error; below 1 the range is the interval.
        level: coverage, 0 to 1.
        low: the least value a mean can have.
        high: the largest one.
    """
    from scipy.special import stdtr, stdtrit

    if freedom < 1 or not error > 0:
        return Ends(low, high, 1.0)
    half = float(stdtrit(freedom, (1 + level) / 2)) * error
    p = 2 * float(stdtr(freedom, -abs(value) / error))
    return Ends(max(value - half, low), min(value + half, high), p)


def of_share(value: float, error: float, freedom: int, level: float) -> Ends:
    """Wilson's interval of a share of clustered pairs, 0 to 1.

    The number of independent pairs is the one whose binomial share has the error that
    the clusters show, and quantiles are those of Student's t. In 300 synthetic studies
    of each of 24 settings (288 environments of 5 to 27 slices, mean errors of 0.14 to
    0.43) these covered 92.7 to 100 % of 95 %, and Student's of a mean 88.3 to 100 %.

    Source: Wilson, 1927, JASA 22; Franco, Little, Louis and Slud, 2019, "Comparative
    study of confidence intervals for proportions in complex sample surveys".

    Args:
        value: of the share, between 0 and 1.
        error: its standard error.
        freedom: degrees of freedom of the error; below 1 the range is the interval.
        level: coverage, 0 to 1.
    """
    from scipy.special import stdtrit

    if freedom < 1 or not error > 0 or not 0 < value < 1:  # but for rounding
        return Ends(0.0, 1.0, math.nan)
    t = float(stdtrit(freedom, (1 + level) / 2))
    spread = value * (1 - value)
    shrunk = (t * error) ** 2 / spread  # t^2 over the number of independent pairs
    centre = (value + shrunk / 2) / (1 + shrunk)
    half = math.sqrt(shrunk * spread + shrunk**2 / 4) / (1 + shrunk)
    return Ends(max(centre - half, 0.0), min(centre + half, 1.0), math.nan)
