"""Conditional mutual information of the orders by measure and by gap.

For a pair of networks V_m is the sign of the difference of a measure, V_g that of the
gap, and U_S the values of the hyper-parameters S of both networks. The score is

    K = min over S with at most 2 hyper-parameters of I(V_m; V_g | U_S) / H(V_g | U_S):

the share of the order by gap that the measure knows and no two hyper-parameters do. A
measure that is a function of one hyper-parameter has K = 0.

Source: Jiang et al., 2020, arXiv:1912.02178, Equations 10 to 12.

Differences: a sign has three values, since ties are neither order; sets S that leave
nothing of the order open, H(V_g | U_S) = 0, are left out. K of counts is above 0 for an
unrelated measure too: more so the fewer pairs have the same U_S.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe.errors import check_count, check_integer
from steppe_lab.statistics.concordance import ranks
from steppe_lab.statistics.correlation import check_level
from steppe_lab.statistics.intervals import LEVEL
from steppe_lab.statistics.jackknife import NONE, Ends, of_mean, stderr
from steppe_lab.statistics.layers import EXACT, Pairs, layers_of, short
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import (
    MANY,
    Complete,
    Floats,
    Table,
    Whole,
    complete,
    joined,
    with_levels,
)

MOST = 2  # hyper-parameters in S
SIGNS = 3
# Signs of measure and gap, of which the others are mirror images: (b, a) has the
# opposite signs of (a, b).
SHOWN = ((0, 0), (0, 1), (1, 0), (1, 1), (1, -1))

Tables = NDArray[
    np.floating[Any]
]  # (..., levels, levels, 3, 3) counts of ordered pairs


@dataclass(frozen=True, kw_only=True)
class Information(AbstractStatistic):
    """Score K (`value`), 0 to 1, and the share for each set of hyper-parameters."""

    given: tuple[str, ...]  # the set S with the least share
    shares: Mapping[tuple[str, ...], float]  # by S
    unrelated: float = math.nan  # mean K of the measure's values in random order
    draws: int = 0  # of random orders; p is the share of those with as large a K

    def __str__(self) -> str:
        given = ", ".join(self.given) or "nothing"
        return f"{self:.4f} given {given}"


def conditional_information(
    table: Table,
    measure: str,
    gap: str,
    factors: Sequence[str],
    *,
    level: float = LEVEL,
    interval: bool = True,
    draws: int = 0,
    seed: int = 0,
) -> Information:
    """The score K of a measure.

    The interval is that of the share for the set S with the least one, from its values
    without each configuration in turn. It is of use where K is clearly above that of an
    unrelated measure; with `draws`, `unrelated` and `p` say what that is.

    Args:
        table: columns by name.
        measure: column of numbers; rows without a value are left out.
        gap: column of numbers, likewise.
        factors: columns of the hyper-parameters; rows alike in all are one
            configuration.
        level: coverage of the interval, 0 to 1.
        interval: whether there is one; it costs more than K itself.
        draws: of random orders of the measure's values; 0 for no test. Each costs as
            much as K itself.
        seed: of the draws.

    Raises:
        DataError: no such column, or a text among numbers.
        SettingError: a level or a number of draws out of range.

    Example:
        >>> table = {"lr": [1, 1, 2, 2], "seed": [0, 1, 0, 1]}
        >>> table |= {"gap": [1.0, 2.0, 4.0, 3.0]}
        >>> conditional_information(table, "gap", "gap", ["lr"]).value
        1.0
        >>> conditional_information(table, "lr", "gap", ["lr"]).value
        0.0
    """
    check_level(level)
    check_count("draws", draws, 0)
    check_integer("seed", seed)
    rows = complete(table, [measure, gap], factors, cluster=factors)
    codes, notes = _sets(rows)
    x, y = ranks(rows.numbers[measure]), ranks(rows.numbers[gap])
    of_sets = list(codes.values())
    parts = _pair_counts(x, y, rows.clusters, of_sets)
    shares = dict(zip(codes, _shares(parts, rows.clusters, of_sets), strict=True))
    known = {given: share for given, share in shares.items() if not math.isnan(share)}
    least = min(known, key=lambda given: (known[given], len(given)), default=())
    value = known.get(least, math.nan)
    ends = NONE
    if known and interval:
        part = parts[list(codes).index(least)]
        ends = _interval(rows, x, y, codes[least], part, value, level)
    p = unrelated = math.nan
    if known and draws:
        p, unrelated = _test(x, y, rows.clusters, of_sets, value, draws, seed)
    left_out = len(shares) - len(known)
    if left_out:
        notes.append(
            f"{left_out} of {len(shares)} sets of hyper-parameters were left out: "
            f"given them, the order of {gap} is certain."
        )
    return Information(
        value=value,
        low=ends.low,
        high=ends.high,
        level=level,
        p=p,
        rows=len(rows),
        clusters=rows.count,
        notes=tuple(notes),
        given=least,
        shares=shares,
        unrelated=unrelated,
        draws=draws,
    )


def _sets(rows: Complete) -> tuple[dict[tuple[str, ...], Whole], list[str]]:
    """The level of each row in every set S, by S, and notes on sets left out."""
    codes: dict[tuple[str, ...], Whole] = {(): np.zeros(len(rows), dtype=np.int64)}
    factors, notes = with_levels(rows.factors)
    for size in range(1, MOST + 1):
        for given in itertools.combinations(factors, size):
            code = joined([factors[name].codes for name in given])
            if code.max(initial=0) < MANY:
                codes[given] = code
            else:
                notes.append(f"{', '.join(given)} have more than {MANY} joint levels.")
    return codes, [*rows.notes, *notes]


def _pair_counts(
    x: Whole, y: Whole, clusters: Whole, codes: Sequence[Whole]
) -> list[Tables]:
    """Rows of each level and signs that a configuration makes pairs with, for each S.

    Returns:
        Counts, shape (K, levels of S, 5), in the order of `SHOWN`: signs of the row of
        the configuration minus those of the other.
    """
    layers, n = layers_of(clusters), len(x)
    widths = [int(code.max(initial=-1)) + 1 for code in codes]
    kind: Any = np.float32 if n * len(layers.rows) < EXACT else np.float64
    marks = np.concatenate(
        [code[:, None] == np.arange(w) for code, w in zip(codes, widths, strict=True)],
        axis=1,
    ).astype(kind)
    of_x, of_y = short(x), short(y)
    others_x, others_y = of_x[layers.order], of_y[layers.order]

    def shown(own: Whole) -> Sequence[Pairs]:
        mine_x, mine_y = of_x[own, None], of_y[own, None]
        above_x, above_y = mine_x > others_x, mine_y > others_y
        below_y = mine_y < others_y
        # With most orders of values there are few ties.
        same_x = ~(above_x | (mine_x < others_x))
        tables = [
            same_x & ~(above_y | below_y),
            same_x & above_y,
            above_x & ~(above_y | below_y),
            above_x & above_y,
            above_x & below_y,
        ]
        return [each.view(np.int8) for each in tables]

    first = np.unique(clusters, return_index=True)[1]
    of_clusters = marks[first[layers.clusters]]
    counts: Tables = np.zeros((len(first), marks.shape[1], len(SHOWN)), dtype=kind)
    for part, tables in layers.sums(shown, len(SHOWN)):
        for place, sums in enumerate(tables):
            if sums.any():
                own = layers.clusters[part]
                counts[own, :, place] = sums.astype(kind) @ of_clusters
    # No row is a pair with itself.
    counts[:, :, 0] -= marks[first] * np.bincount(clusters)[:, None]
    return np.split(counts, np.cumsum(widths)[:-1], axis=1)


def _signs(left: Whole, right: Whole) -> NDArray[np.int8]:
    above = (left[:, None] > right).view(np.int8)
    return above - (left[:, None] < right).view(np.int8)


def _shown(part: Tables, code: Whole) -> Tables:
    """Counts of ordered pairs by both levels and the signs in `SHOWN`.

    Args:
        part: counts of configurations, shape (K, levels, 5).
        code: level of each configuration, shape (K,).
    """
    order = np.argsort(code, kind="stable")
    starts = np.flatnonzero(np.diff(code[order], prepend=-1))
    counts: Tables = np.add.reduceat(part[order], starts, axis=0, dtype=np.float64)
    return counts


def _mirrored(shown: Tables) -> Tables:
    """All nine pairs of signs from the five that are counted.

    Args:
        shown: shape (..., levels, levels, 5).
    """
    counts = np.zeros((*shown.shape[:-1], SIGNS, SIGNS))
    swapped = np.swapaxes(shown, -3, -2)
    for place, (one, other) in enumerate(SHOWN):
        counts[..., 1 + one, 1 + other] = shown[..., place]
        if (one, other) != (0, 0):
            counts[..., 1 - one, 1 - other] = swapped[..., place]
    return counts


def _shares(
    parts: Sequence[Tables], clusters: Whole, codes: Sequence[Whole]
) -> list[float]:
    """The share for each set S."""
    first = np.unique(clusters, return_index=True)[1]
    return [
        _share(_mirrored(_shown(part, code[first]))).item()
        for part, code in zip(parts, codes, strict=True)
    ]


def _share(counts: Tables) -> Floats:
    """I / H of tables of shape (..., levels, levels, 3, 3); NaN where H is 0."""
    both = _entropy_sum(counts, (-4, -3, -2, -1))
    of_measure = _entropy_sum(counts.sum(axis=-1), (-3, -2, -1))
    of_gap = _entropy_sum(counts.sum(axis=-2), (-3, -2, -1))
    neither = _entropy_sum(counts.sum(axis=(-2, -1)), (-2, -1))
    # H(g | U) and I(m; g | U), both times the number of pairs.
    entropy = neither - of_gap
    information = both + neither - of_measure - of_gap
    total = counts.sum(axis=(-4, -3, -2, -1))
    tiny = 1e-12 * np.maximum(np.abs(neither), total)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(entropy > tiny, information / entropy, np.nan)
    # Differences of large sums leave rounding errors where nothing is shared.
    share = np.where(
        np.abs(information) <= tiny, np.where(entropy > tiny, 0.0, share), share
    )
    clipped: Floats = np.clip(share, 0.0, 1.0)
    return clipped


def _entropy_sum(counts: Tables, axes: tuple[int, ...]) -> Floats:
    """Sum of c log c over counts c."""
    logs = np.log(counts, out=np.zeros_like(counts), where=counts > 0)
    total: Floats = np.asarray((counts * logs).sum(axis=axes))
    return total


def _interval(
    rows: Complete,
    x: Whole,
    y: Whole,
    code: Whole,
    part: Tables,
    value: float,
    level: float,
) -> Ends:
    """Interval of the share for one set S, over configurations."""
    left_out = np.array(list(_without_each(rows.clusters, x, y, code, part)))
    known = left_out[np.isfinite(left_out)]
    if len(known) < len(left_out) or len(known) < 2:
        return Ends(0.0, 1.0, math.nan)
    return of_mean(value, stderr(known), len(known) - 1, level, 0.0, 1.0)


def _without_each(
    clusters: Whole, x: Whole, y: Whole, code: Whole, part: Tables
) -> Iterator[float]:
    """The share without each configuration."""
    levels = part.shape[1]
    order = np.argsort(clusters, kind="stable")
    bounds = np.flatnonzero(np.diff(clusters[order], prepend=-1))
    whole = _shown(part, code[order[bounds]])
    for cluster, own in enumerate(np.split(order, bounds[1:])):
        # All rows of a configuration have one level of S.
        at = code[own[0]]
        shown = whole.copy()
        shown[at] -= part[cluster]
        of_x, of_y = _signs(x[own], x), _signs(y[own], y)
        for place, (one, other) in enumerate(SHOWN):
            pairs = (of_x == -one) & (of_y == -other)
            mine = np.bincount(code, pairs.sum(axis=0), minlength=levels)
            shown[:, at, place] -= mine
            # Pairs inside of the configuration went away twice.
            inside = pairs[:, own].sum()
            shown[at, at, place] += inside
            if (one, other) == (0, 0):
                shown[:, at, place] += np.bincount(code[own], minlength=levels)
                shown[at, at, place] -= len(own)
        yield float(_share(_mirrored(shown)))


def _test(
    x: Whole,
    y: Whole,
    clusters: Whole,
    codes: Sequence[Whole],
    value: float,
    draws: int,
    seed: int,
) -> tuple[float, float]:
    """P of K under random orders of the measure, and the mean K of these."""
    generator = np.random.default_rng(seed)
    drawn = np.empty(draws)
    for place in range(draws):
        parts = _pair_counts(generator.permutation(x), y, clusters, codes)
        drawn[place] = np.nanmin(_shares(parts, clusters, codes))
    p = (1 + int((drawn >= value).sum())) / (draws + 1)
    return p, float(drawn.mean())
