"""Kendall's tau-b of a measure and the gap, with an interval over configurations.

Source: Kendall, 1945, Biometrika 33 (tau-b); Jiang et al., 2020, arXiv:1912.02178,
Equation 5 (as a score of generalization measures).

Differences: published tables have no interval; this one is of new configurations, all
seeds of which are drawn together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steppe.errors import check_count, check_integer, check_range
from steppe_lab.statistics.concordance import PairSums, pair_sums
from steppe_lab.statistics.intervals import LEVEL
from steppe_lab.statistics.jackknife import NONE, Ends, of_correlation
from steppe_lab.statistics.resampling import draw_counts, resampled
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import Complete, Floats, Names, Table, Whole, complete


@dataclass(frozen=True, kw_only=True)
class Correlation(AbstractStatistic):
    """Kendall's tau-b, -1 to 1."""

    draws: int = 0  # of the bootstrap; 0 where each configuration was left out in turn


def kendall(
    table: Table,
    measure: str,
    gap: str,
    *,
    cluster: Names | None = None,
    level: float = LEVEL,
    draws: int = 0,
    seed: int = 0,
) -> Correlation:
    """Kendall's tau-b of two columns.

    The interval is symmetric on the scale of the arcsine, from the values without each
    configuration in turn, and the p of independence goes with it. Of the kinds of
    intervals that were tried on synthetic studies it covered best; see
    `steppe_lab.statistics.jackknife`. With `draws` the interval has instead the
    quantiles of a bootstrap of configurations, which papers print.

    Args:
        table: columns by name.
        measure: column of numbers. Rows where it is None, NaN or infinite are left out
            and counted in the notes.
        gap: column of numbers, likewise.
        cluster: column or columns that name the configuration of a row, such as the
            factors; rows of one configuration differ in the seed alone and are not
            independent. Each row is one of its own where none are given.
        level: coverage, 0 to 1.
        draws: of the bootstrap; 0 for none.
        seed: of the draws.

    Raises:
        DataError: no such column, or a text among numbers.
        SettingError: a level out of range, a negative number of draws.

    Example:
        >>> print(kendall({"m": [1, 2, 3, 4, 5], "gap": [1, 3, 2, 5, 4]}, "m", "gap"))
        0.600 [-0.278, 1.000]
    """
    check_level(level)
    check_count("draws", draws, 0)
    check_integer("seed", seed)
    rows = complete(table, [measure, gap], cluster=cluster)
    x, y = rows.numbers[measure], rows.numbers[gap]
    result = correlate(x, y, rows.clusters, level)
    ends = Ends(result.low, result.high, result.p)
    if draws and not np.isnan(result.value):
        taus = resampled(x, y, rows.clusters, draw_counts(rows.count, draws, seed))
        low, high = np.nanquantile(taus, [(1 - level) / 2, (1 + level) / 2])
        ends = Ends(float(low), float(high), result.p)
    return Correlation(
        value=result.value,
        low=ends.low,
        high=ends.high,
        level=level,
        p=ends.p,
        rows=len(rows),
        clusters=rows.count,
        notes=(*rows.notes, *doubts(rows, [measure, gap])),
        draws=draws,
    )


def correlate(
    x: Floats,
    y: Floats,
    clusters: Whole,
    level: float,
    *,
    lost: int = 0,
    notes: Sequence[str] = (),
) -> Correlation:
    """Tau-b of two arrays, with its interval over clusters.

    Args:
        x: values, shape (n,), finite.
        y: values, shape (n,), finite.
        clusters: of each row, shape (n,), 0 to K - 1.
        level: coverage, 0 to 1.
        lost: degrees of freedom that a model took from the values before.
        notes: of the result.
    """
    return of_sums(pair_sums(x, y, clusters), len(x), level, lost=lost, notes=notes)


def of_sums(
    sums: PairSums,
    rows: int,
    level: float,
    *,
    lost: int = 0,
    notes: Sequence[str] = (),
) -> Correlation:
    """Tau-b of sums over pairs, with its interval; see `correlate`."""
    count = sums.with_others.shape[1]
    ends = of_correlation(sums.value, sums.left_out, level, lost) if count else NONE
    return Correlation(
        value=sums.value,
        low=ends.low,
        high=ends.high,
        level=level,
        p=ends.p,
        rows=rows,
        clusters=count,
        notes=tuple(notes),
    )


def doubts(rows: Complete, names: Sequence[str]) -> list[str]:
    """Sentences on columns without variation, and on many ties."""
    said = []
    for name in names:
        values = rows.numbers[name]
        different = len(np.unique(values))
        if len(values) < 2:
            return ["there are fewer than 2 rows."]
        if different == 1:
            said.append(f"{name} has the same value in all rows.")
        elif different < len(values):
            tied = np.unique(values, return_counts=True)[1]
            pairs = float((tied * (tied - 1)).sum()) / (len(values) * (len(values) - 1))
            said.append(f"{name} ties in {100 * pairs:.2g} % of pairs.")
    return said


def check_level(level: float) -> None:
    """Refuse a coverage that is not between 0 and 1.

    Raises:
        SettingError: names the level.
    """
    check_range("level", level, 0, 1, above=True, below=True)
