"""Kendall's tau-b from sums over pairs of rows, of all clusters and without each one.

With a and b the signs of the differences of two values over a pair of rows,

    tau_b = sum a b / sqrt(sum a^2 sum b^2).

The three sums over the pairs of a row with all others cost O(n log n), and give the
sums without any one cluster of rows.

Source: Kendall, 1945, "The treatment of ties in ranking problems", Biometrika 33.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steppe_lab.statistics.tables import Floats, Whole

SHORT = 2**15  # whole numbers below it have 16 bits


@dataclass(frozen=True)
class PairSums:
    """Sums of a b, a^2 and b^2 over ordered pairs, for every cluster of rows."""

    with_others: Whole  # (3, K), pairs of the cluster's rows with all rows
    within: Whole  # (3, K), pairs inside of the cluster

    @property
    def value(self) -> float:
        """Tau-b of all rows; NaN where one of the values does not vary."""
        return float(tau_of(self.with_others.sum(axis=1)[:, None])[0])

    @property
    def left_out(self) -> Floats:
        """Tau-b without each cluster, shape (K,)."""
        # Pairs inside of the cluster stand twice in those of its rows with all rows.
        rest = self.with_others.sum(axis=1)[:, None] - 2 * self.with_others
        return tau_of(rest + self.within)

    def of(self, clusters: Whole) -> PairSums:
        """Those of some clusters, where the others have no pairs."""
        return PairSums(self.with_others[:, clusters], self.within[:, clusters])


def joined_sums(parts: Sequence[PairSums]) -> PairSums:
    """Sums over pairs that are in one of several parts of the rows."""
    return PairSums(
        np.sum([part.with_others for part in parts], axis=0),
        np.sum([part.within for part in parts], axis=0),
    )


def pair_sums(
    x: Floats,
    y: Floats,
    clusters: Whole,
    only: NDArray[np.bool_] | None = None,
) -> PairSums:
    """Sums over pairs of rows by cluster.

    Args:
        x: values, shape (n,), finite.
        y: values, shape (n,), finite.
        clusters: of each row, shape (n,), 0 to K - 1.
        only: whether pairs of a row count, shape (n,); all where none are given.
    """
    count = int(clusters.max(initial=-1)) + 1
    with_others = np.zeros((3, count), dtype=np.int64)
    if only is not None:
        x, y, clusters = x[only], y[only], clusters[only]
    a, b = ranks(x), ranks(y)
    sums = np.stack([concordant_minus_discordant(a, b), untied(a), untied(b)])
    for total, each in zip(with_others, sums, strict=True):
        np.add.at(total, clusters, each)
    return PairSums(with_others, sums_inside(a, b, clusters, count))


def ranks(values: Floats) -> Whole:
    """Dense ranks from 0 on, shape (n,): the order and ties of values, as integers."""
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)


def untied(ranked: Whole) -> Whole:
    """Number of rows that differ from each, shape (n,)."""
    return len(ranked) - np.bincount(ranked)[ranked] if len(ranked) else ranked


def concordant_minus_discordant(a: Whole, b: Whole) -> Whole:
    """Sum over all rows of the products of signs, for each row, shape (n,)."""
    if not len(a):
        return a
    alike = _below_both(a, b) + _below_both(-a, -b)
    # Rows that differ in both values are alike or opposite in their order.
    both = np.unique(a * (int(b.max()) + 1) + b, return_inverse=True)[1].reshape(-1)
    return 2 * alike - untied(a) - untied(b) + untied(both)


def _below_both(a: Whole, b: Whole) -> Whole:
    """Number of rows with less of both values, for each row, shape (n,).

    Rows are sorted by the first value; at each of log2(n) levels every block's left
    half is counted by its right half, in the order of the second value.
    """
    n = len(a)
    # Among ties of a, larger b come first, so that no row counts one of its ties.
    order = np.lexsort((-b, a))
    second, counts = b[order], np.zeros(n, dtype=np.int64)
    # Among ties of b the right half's rows come first, for the same reason.
    by_second = np.lexsort((-np.arange(n), second))
    # Numpy sorts short whole numbers in linear time.
    short = np.int16 if n <= SHORT else np.int64
    for level in range(max(n - 1, 0).bit_length()):
        block = (by_second >> (level + 1)).astype(short)
        path = by_second[np.argsort(block, kind="stable")]
        left = ((path >> level) & 1) == 0
        before = np.cumsum(left)
        # Blocks to the left are full: half of their rows are left halves.
        before -= ((path >> (level + 1)) << (level + 1)) >> 1
        counts[path] += np.where(left, 0, before)
    result = np.empty(n, dtype=np.int64)
    result[order] = counts
    return result


def sums_inside(a: Whole, b: Whole, clusters: Whole, count: int) -> Whole:
    """Sums of a b, a^2 and b^2 over ordered pairs inside of clusters, shape (3, K).

    Args:
        a: ranks of the first value, shape (n,).
        b: ranks of the second value, shape (n,).
        clusters: of each row, shape (n,), 0 to K - 1.
        count: K.
    """
    sums = np.zeros((3, count), dtype=np.int64)
    order = np.argsort(clusters, kind="stable")
    a, b, of = a[order], b[order], clusters[order]
    largest = int(np.bincount(of).max(initial=0))
    for apart in range(1, largest):
        same = of[apart:] == of[:-apart]
        up = np.sign(a[apart:] - a[:-apart])[same]
        over = np.sign(b[apart:] - b[:-apart])[same]
        for total, each in zip(sums, (up * over, up * up, over * over), strict=True):
            np.add.at(total, of[apart:][same], 2 * each)
    return sums


def tau_of(sums: NDArray[np.int64]) -> Floats:
    """Tau-b of sums of shape (3, m), shape (m,); NaN where a value does not vary."""
    products, first, second = sums.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        # One root of the product: it is exact where both sums are equal.
        taus: Floats = np.clip(products / np.sqrt(first * second), -1.0, 1.0)
    return taus
