"""Difference of two predictors of the gap, on the same draws of configurations.

Source: Efron, 1979, "Bootstrap methods: another look at the jackknife".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steppe.errors import check_count, check_integer
from steppe_lab.statistics.concordance import pair_sums
from steppe_lab.statistics.correlation import check_level
from steppe_lab.statistics.intervals import LEVEL
from steppe_lab.statistics.resampling import draw_counts, resampled
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import Floats, Names, Table, complete


@dataclass(frozen=True, kw_only=True)
class TauDifference(AbstractStatistic):
    """Tau-b of the left predictor minus that of the right one, -2 to 2."""

    left: float  # tau-b on the rows that both have
    right: float
    draws: int


def paired_bootstrap(
    table: Table,
    left: str | Sequence[float | None],
    right: str | Sequence[float | None],
    gap: str,
    *,
    cluster: Names | None = None,
    draws: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
) -> TauDifference:
    """Difference of the tau-b of two predictors with the gap.

    Both are computed in every draw of configurations with replacement. The interval has
    the quantiles of their differences; p is twice the share of draws on the rarer side
    of 0. Signs count: of two predictors that fall with the gap, the one that follows it
    more closely has the lower tau.

    In 500 or more synthetic studies each of 30 rows with 1 and 3 seeds, of measures
    that follow the gap and each other not at all to closely, intervals of 95 % covered
    92 to 99 %.

    Args:
        table: columns by name.
        left: column of numbers, or a number for each row of the table, such as the
            values of a predictor from `baselines`.
        right: likewise.
        gap: column of numbers. Rows without a value in one of the three are left out.
        cluster: column or columns that name the configuration of a row; see `kendall`.
        draws: with replacement, as many configurations each as there are.
        level: coverage of the interval, 0 to 1.
        seed: of the draws; two calls with one seed and the same rows share them.

    Raises:
        DataError: no such column, a text among numbers, or columns of unlike length.
        SettingError: a level or a number of draws out of range.

    Example:
        >>> table = {"a": [1, 2, 3, 4, 5, 6], "b": [2, 1, 3, 5, 4, 6]}
        >>> table["gap"] = [1, 2, 3, 4, 5, 6]
        >>> difference = paired_bootstrap(table, "a", "b", "gap")
        >>> difference.left, round(difference.value, 3)
        (1.0, 0.267)
    """
    check_level(level)
    check_count("draws", draws, 1)
    check_integer("seed", seed)
    columns = {name: table[name] for name in table}
    names = []
    for place, predictor in (("left values", left), ("right values", right)):
        if not isinstance(predictor, str):
            columns[place] = predictor
        names.append(predictor if isinstance(predictor, str) else place)
    rows = complete(columns, [*names, gap], cluster=cluster)
    y, notes = rows.numbers[gap], list(rows.notes)
    values, resamples = [], []
    counts = draw_counts(rows.count, draws, seed)
    for name in names:
        x = rows.numbers[name]
        values.append(pair_sums(x, y, rows.clusters).value)
        # A predictor is the same in all draws: nothing can be said of it.
        known = not math.isnan(values[-1])
        resamples.append(resampled(x, y, rows.clusters, counts) if known else None)
        if not known:
            notes.append(f"{name} or {gap} does not vary.")
    first, second = resamples
    if first is None or second is None:
        low = high = p = math.nan
    else:
        low, high, p = _of_draws(first - second, level, notes)
    return TauDifference(
        value=values[0] - values[1],
        low=low,
        high=high,
        level=level,
        p=p,
        rows=len(rows),
        clusters=rows.count,
        notes=tuple(notes),
        left=values[0],
        right=values[1],
        draws=draws,
    )


def _of_draws(
    differences: Floats, level: float, notes: list[str]
) -> tuple[float, float, float]:
    """Ends of the interval, and p."""
    known = differences[np.isfinite(differences)]
    if len(known) < len(differences):
        notes.append(
            f"{len(differences) - len(known)} draws were left out: a value did not "
            "vary in them."
        )
    if not len(known):
        return -2.0, 2.0, 1.0
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    rarer = min((known <= 0).sum(), (known >= 0).sum())
    # The data themselves count as one draw: p is never 0.
    p = min(2 * (float(rarer) + 1) / (len(known) + 1), 1.0)
    return float(low), float(high), p
