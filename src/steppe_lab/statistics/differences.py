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
from steppe_lab.statistics.resampling import Resampling, draw_counts
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import Complete, Floats, Names, Table, complete

LEFT, RIGHT = "left values", "right values"  # names of predictors without one


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
    columns = {name: table[name] for name in table}
    if not isinstance(left, str):
        columns[LEFT] = left
        left = LEFT
    made = paired_bootstraps(
        columns,
        [left],
        right,
        gap,
        cluster=cluster,
        draws=draws,
        level=level,
        seed=seed,
    )
    return made[left]


def paired_bootstraps(
    table: Table,
    lefts: Sequence[str],
    right: str | Sequence[float | None],
    gap: str,
    *,
    cluster: Names | None = None,
    draws: int = 1000,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, TauDifference]:
    """Differences of several predictors and one, by the names of the former.

    Each is that of `paired_bootstrap`; those with values in the same rows share the
    draws, which takes half of the time.

    Raises:
        DataError: as there.
        SettingError: as there.
    """
    check_level(level)
    check_count("draws", draws, 1)
    check_integer("seed", seed)
    columns = {name: table[name] for name in table}
    if not isinstance(right, str):
        columns[RIGHT] = right
        right = RIGHT
    shared: dict[bytes, _Draws] = {}
    made = {}
    for name in lefts:
        rows = complete(columns, [name, right, gap], cluster=cluster)
        key = rows.kept.tobytes()
        if key not in shared:
            counts = draw_counts(rows.count, draws, seed)
            of_gap = Resampling(rows.numbers[gap], rows.clusters, counts)
            shared[key] = _Draws(of_gap, *_resampled(rows, right, gap, of_gap))
        made[name] = _difference(rows, name, right, gap, shared[key], draws, level)
    return made


@dataclass(frozen=True)
class _Draws:
    """Draws of some rows, and the predictor on the right in them."""

    of_gap: Resampling
    tau: float
    taus: Floats | None


def _resampled(
    rows: Complete, name: str, gap: str, draws: Resampling
) -> tuple[float, Floats | None]:
    """Tau of all rows and of each draw; None where nothing can be said of it."""
    x, y = rows.numbers[name], rows.numbers[gap]
    value = pair_sums(x, y, rows.clusters).value
    return value, None if math.isnan(value) else draws.taus(x)


def _difference(
    rows: Complete,
    left: str,
    right: str,
    gap: str,
    shared: _Draws,
    draws: int,
    level: float,
) -> TauDifference:
    tau, taus = _resampled(rows, left, gap, shared.of_gap)
    notes = list(rows.notes)
    for name, known in ((left, taus), (right, shared.taus)):
        if known is None:
            notes.append(f"{name} or {gap} does not vary.")
    low = high = p = math.nan
    if taus is not None and shared.taus is not None:
        low, high, p = _of_draws(taus - shared.taus, level, notes)
    return TauDifference(
        value=tau - shared.tau,
        low=low,
        high=high,
        level=level,
        p=p,
        rows=len(rows),
        clusters=rows.count,
        notes=tuple(notes),
        left=tau,
        right=shared.tau,
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
