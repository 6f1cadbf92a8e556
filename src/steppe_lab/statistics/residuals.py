"""Kendall's tau of the parts of measure and gap that hyper-parameters do not explain.

The additive effects of all factors are removed from both: what is left of a measure
that only knows the hyper-parameters is noise. It depends on the scale of the measure,
so that it is computed of the values, of their logarithms and of their ranks.

Source: the idea of partial correlation, Kendall, 1942, doi:10.1093/biomet/32.3-4.277,
with effects of factors in place of one variable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steppe_lab.statistics.additive import AdditiveFit, additive_fit
from steppe_lab.statistics.correlation import Correlation, check_level, correlate
from steppe_lab.statistics.intervals import LEVEL
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import Complete, Floats, Table, complete, with_levels


@dataclass(frozen=True, kw_only=True)
class ResidualKendall(AbstractStatistic):
    """Tau-b of residuals: of the measure's values (`value`), logarithms and ranks."""

    log: Correlation  # without a value where the measure is not positive
    rank: Correlation
    r2_gap: float  # shares of the variance that the factors explain
    r2_measure: float

    @property
    def raw(self) -> AbstractStatistic:
        """The tau of the values themselves: this record."""
        return self

    def __str__(self) -> str:
        return f"raw {self:.3f}, log {self.log}, rank {self.rank}"


def residual_kendall(
    table: Table,
    measure: str,
    gap: str,
    factors: Sequence[str],
    *,
    level: float = LEVEL,
) -> ResidualKendall:
    """Tau-b of measure and gap after additive effects of factors are removed.

    Each level of each factor has an effect, by least squares. The intervals are those
    of `kendall` over configurations, wider by the degrees of freedom of the effects.

    Args:
        table: columns by name.
        measure: column of numbers; rows without a value are left out.
        gap: column of numbers, likewise; it is not transformed.
        factors: columns of labels; rows alike in all are one configuration.
        level: coverage of the intervals, 0 to 1.

    Raises:
        DataError: no such column, or a text among numbers.
        SettingError: a level out of range.

    Example:
        >>> table = {"lr": [1, 1, 1, 2, 2, 2], "width": [1, 2, 3, 1, 2, 3]}
        >>> table |= {"m": [1.0, 2.0, 4.0, 5.0, 7.0, 8.0]}
        >>> table |= {"gap": [11.0, 22.0, 34.0, 15.0, 27.0, 38.0]}
        >>> residual_kendall(table, "m", "gap", ["lr", "width"]).value
        1.0
    """
    check_level(level)
    rows = complete(table, [measure, gap], factors, cluster=factors)
    factors_used, crowded = with_levels(rows.factors)
    x, levels = rows.numbers[measure], list(factors_used.values())
    other = additive_fit(rows.numbers[gap], levels)
    own = additive_fit(x, levels, other)
    raw = _residual_tau(rows, own, other, level)
    rank = _residual_tau(
        rows, additive_fit(_average_ranks(x), levels, other), other, level
    )
    if len(x) and x.min() > 0:
        log = _residual_tau(rows, additive_fit(np.log(x), levels, other), other, level)
    else:
        log = _no_tau(level, "logarithms need positive values.")
    return ResidualKendall(
        value=raw.value,
        low=raw.low,
        high=raw.high,
        level=level,
        p=raw.p,
        rows=len(rows),
        clusters=rows.count,
        notes=(*rows.notes, *crowded, *raw.notes),
        log=log,
        rank=rank,
        r2_gap=other.r2,
        r2_measure=own.r2,
    )


def _residual_tau(
    rows: Complete, measure: AdditiveFit, gap: AdditiveFit, level: float
) -> Correlation:
    left, right = measure.residuals, gap.residuals
    notes = [
        f"the factors explain all of {name}."
        for name, rest in (("the measure", left), ("the gap", right))
        if len(rest) and not rest.any()
    ]
    return correlate(
        left, right, rows.clusters, level, lost=measure.rank - 1, notes=notes
    )


def _no_tau(level: float, note: str) -> Correlation:
    return Correlation(value=math.nan, level=level, rows=0, clusters=0, notes=(note,))


def _average_ranks(values: Floats) -> Floats:
    """Ranks from 1 on; ties have the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    averages: Floats = (last - (counts - 1) / 2)[place.reshape(-1)]
    return averages
