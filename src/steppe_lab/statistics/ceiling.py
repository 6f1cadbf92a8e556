"""The largest tau that a measure can reach, given the errors of its values.

A measure that orders all networks as the gap does has a tau of 1 where both are known
exactly. Errors swap networks that lie close: the tau of such a measure, with errors
drawn anew, is the ceiling.

Source: attenuation by errors of measurement, Spearman, 1904, doi:10.2307/1412159; here
by simulation, since tau has no closed form for unlike errors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from steppe.errors import (
    DataError,
    check_count,
    check_integer,
    check_positive,
)
from steppe_lab.statistics.correlation import check_level
from steppe_lab.statistics.intervals import LEVEL
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import Complete, Floats, Table, complete


@dataclass(frozen=True, kw_only=True)
class NoiseCeiling(AbstractStatistic):
    """Mean tau (`value`) of a perfect measure, and the range of its tau over draws."""

    of_measure: float  # with the errors of the measure alone; 1 where it has none
    of_gap: float  # with those of the gap alone
    observed: float  # tau of the table
    draws: int

    @property
    def share(self) -> float:
        """Observed tau, in magnitude, over the ceiling; NaN where that is 0."""
        return abs(self.observed) / self.value if self.value > 0 else math.nan


def noise_ceiling(
    table: Table,
    measure: str,
    gap: str,
    *,
    stderr: str | None = None,
    test_samples: int | None = None,
    error: str = "test_error",
    scale: float = 100.0,
    draws: int = 100,
    level: float = LEVEL,
    seed: int = 0,
) -> NoiseCeiling:
    """The largest tau, in magnitude, that the errors of the values leave.

    True values are the given ones, drawn together to the spread that is left when the
    mean squared error is subtracted from their variance, and put in the same order.
    Normal errors are then added to each.

    The errors of test errors are those of independent samples. Networks share theirs
    and mostly fail on the same ones, so that differences of gaps are known better: the
    part of the gap is a lower bound of its ceiling.

    Args:
        table: columns by name.
        measure: column of numbers; rows without a value are left out.
        gap: column of numbers, likewise.
        stderr: column of the standard errors of the measure, >= 0; `MEASURE_stderr`
            where none is given, and no errors where there is no such column.
        test_samples: that each test error was computed on; no errors of the gap where
            it is not given.
        error: column of test errors, 0 to `scale`.
        scale: test error of a network that is always wrong: 100 for percent.
        draws: of all errors.
        level: share of the draws between `low` and `high`, 0 to 1.
        seed: of the draws.

    Raises:
        DataError: no such column, a text among numbers, a standard error below 0, a
            test error outside of its range.
        SettingError: a level, a scale, or a number out of range.

    Example:
        >>> table = {"m": [1.0, 2.0, 3.0, 4.0], "gap": [1.0, 2.0, 4.0, 3.0]}
        >>> noise_ceiling(table, "m", "gap").value
        1.0
    """
    check_level(level)
    check_positive("scale", scale)
    check_count("draws", draws, 1)
    check_integer("seed", seed)
    spread = stderr or f"{measure}_stderr"
    has_stderr = stderr is not None or spread in table
    names = [measure, gap, *([spread] if has_stderr else [])]
    if test_samples is not None:
        check_count("test_samples", test_samples, 1)
        names.append(error)
    rows = complete(table, names)
    x, y = rows.numbers[measure], rows.numbers[gap]
    of_x, of_y = np.zeros(len(rows)), np.zeros(len(rows))
    notes = list(rows.notes)
    if has_stderr:
        of_x = rows.numbers[spread]
        if (of_x < 0).any():
            raise DataError(f"{spread} must be >= 0, got {of_x.min():g}.")
    else:
        notes.append(f"{measure} has no standard errors.")
    if test_samples is not None:
        of_y = _binomial_errors(rows, error, test_samples, scale)
    both = _taus(x, of_x, y, of_y, draws, seed)
    low, high = _range(both, level)
    nothing = np.zeros(len(rows))
    return NoiseCeiling(
        value=_mean(both),
        low=low,
        high=high,
        level=level,
        rows=len(rows),
        clusters=rows.count,
        notes=tuple(notes),
        of_measure=_mean(_taus(x, of_x, y, nothing, draws, seed)),
        of_gap=_mean(_taus(x, nothing, y, of_y, draws, seed)),
        observed=_tau(x, y),
        draws=draws,
    )


def _binomial_errors(
    rows: Complete, error: str, test_samples: int, scale: float
) -> Floats:
    """Standard errors of test errors, shape (n,), in their own units."""
    share = rows.numbers[error] / scale
    if ((share < 0) | (share > 1)).any():
        worst = rows.numbers[error][(share < 0) | (share > 1)][0]
        raise DataError(f"{error} must be between 0 and {scale:g}, got {worst:g}.")
    errors: Floats = scale * np.sqrt(share * (1 - share) / test_samples)
    return errors


def _taus(
    x: Floats, of_x: Floats, y: Floats, of_y: Floats, draws: int, seed: int
) -> Floats:
    """Taus of values in the same order, with errors drawn anew, shape (draws,)."""
    if not of_x.any() and not of_y.any():
        # Without errors there is nothing to draw; values without variation have no tau.
        varies = len(x) > 1 and np.ptp(x) > 0 and np.ptp(y) > 0
        return np.full(1, 1.0 if varies else math.nan)
    first, second = np.argsort(x, kind="stable"), np.argsort(y, kind="stable")
    true_x, true_y = _drawn_together(x, of_x)[first], _drawn_together(y, of_y)[second]
    generator = np.random.default_rng(seed)
    taus = np.empty(draws)
    for place in range(draws):
        noise = generator.standard_normal((2, len(x)))
        taus[place] = _tau(
            true_x + of_x[first] * noise[0], true_y + of_y[second] * noise[1]
        )
    return taus


def _drawn_together(values: Floats, errors: Floats) -> Floats:
    """Values with the variance that their errors leave, around the same mean."""
    variance, mean = float(values.var()), float(values.mean())
    if not variance:
        return values
    left = max(1 - float(np.square(errors).mean()) / variance, 0.0)
    return mean + math.sqrt(left) * (values - mean)


def _tau(x: Floats, y: Floats) -> float:
    from scipy.stats import kendalltau

    if len(x) < 2 or not np.ptp(x) or not np.ptp(y):
        return math.nan
    return float(kendalltau(x, y).statistic)


def _mean(taus: Floats) -> float:
    known = taus[np.isfinite(taus)]
    return float(known.mean()) if len(known) else math.nan


def _range(taus: Floats, level: float) -> tuple[float, float]:
    known = taus[np.isfinite(taus)]
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
