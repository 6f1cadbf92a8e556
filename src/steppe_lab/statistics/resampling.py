"""Tau-b of configurations that are drawn with replacement, many draws at once.

A draw counts each of K configurations w times. With A the sums of products of signs
over the pairs of two configurations, the sum over the pairs of a draw is w A w: a few
products of matrices serve all draws. Entries are whole numbers that single precision
holds exactly.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from steppe_lab.statistics.concordance import ranks
from steppe_lab.statistics.tables import Floats, Whole

BLOCK = 4_000_000  # entries of a table of signs, or of counts, at a time
EXACT = 2**24  # whole numbers up to here are exact in single precision


def draw_counts(configurations: int, draws: int, seed: int) -> NDArray[np.float32]:
    """Times that each configuration is in each draw, shape (draws, K)."""
    generator = np.random.default_rng(seed)
    counts = np.empty((draws, configurations), dtype=np.float32)
    for row in counts:
        taken = generator.integers(0, configurations, size=configurations)
        row[:] = np.bincount(taken, minlength=configurations)
    return counts


def resampled(
    x: Floats, y: Floats, clusters: Whole, counts: NDArray[np.float32]
) -> Floats:
    """Tau-b of each draw, shape (draws,); NaN where a value does not vary in it.

    Args:
        x: values, shape (n,), finite.
        y: values, shape (n,), finite.
        clusters: of each row, shape (n,), 0 to K - 1.
        counts: times that each cluster is in each draw, shape (draws, K).
    """
    order = np.argsort(clusters, kind="stable")
    a, b, of = ranks(x[order]), ranks(y[order]), clusters[order]
    products = _products(a, b, of, counts)
    first, second = (_untied(each, of, counts) for each in (a, b))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.clip(products / np.sqrt(first * second), -1.0, 1.0)


def _products(a: Whole, b: Whole, of: Whole, counts: NDArray[np.float32]) -> Floats:
    """Sums of products of signs over ordered pairs of each draw, shape (draws,)."""
    n, starts = len(a), np.flatnonzero(np.diff(of, prepend=-1))
    largest = int(np.diff(starts, append=n).max())
    kind = np.float32 if n * largest * 8 < EXACT else np.float64
    weights, total = counts.astype(kind), np.zeros(len(counts))
    k, step = len(starts), max(BLOCK // (n * largest), 1)
    for first in range(0, k, step):
        last = min(first + step, k)
        top, end = starts[first], n if last == k else starts[last]
        signs = _signs(a[top:end], a[top:]) * _signs(b[top:end], b[top:])
        sums = np.add.reduceat(signs, starts[first:] - top, axis=1, dtype=kind)
        sums = np.add.reduceat(sums, starts[first:last] - top, axis=0)
        # Pairs with later blocks stand for their mirror images too.
        sums[:, last - first :] *= 2
        joint = weights[:, first:] @ sums.T
        total += (joint * counts[:, first:last].astype(np.float64)).sum(axis=1)
    return total


def _signs(left: Whole, right: Whole) -> NDArray[np.int8]:
    """Signs of all differences, shape (len(left), len(right))."""
    above = (left[:, None] > right).view(np.int8)
    return above - (left[:, None] < right).view(np.int8)


def _untied(ranked: Whole, of: Whole, counts: NDArray[np.float32]) -> Floats:
    """Ordered pairs of each draw that differ in a value, shape (draws,)."""
    order = np.argsort(ranked, kind="stable")
    starts, columns = np.flatnonzero(np.diff(ranked[order], prepend=-1)), of[order]
    total, step = np.empty(len(counts)), max(BLOCK // len(ranked), 1)
    for first in range(0, len(counts), step):
        weights = counts[first : first + step, columns].astype(np.float64)
        tied = np.square(np.add.reduceat(weights, starts, axis=1)).sum(axis=1)
        total[first : first + step] = np.square(weights.sum(axis=1)) - tied
    return total
