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
from steppe_lab.statistics.layers import EXACT, layers_of, short
from steppe_lab.statistics.tables import Floats, Whole

BLOCK = 4_000_000  # entries of a table of counts at a time


def draw_counts(configurations: int, draws: int, seed: int) -> NDArray[np.float32]:
    """Times that each configuration is in each draw, shape (draws, K)."""
    generator = np.random.default_rng(seed)
    counts = np.empty((draws, configurations), dtype=np.float32)
    for row in counts:
        taken = generator.integers(0, configurations, size=configurations)
        row[:] = np.bincount(taken, minlength=configurations)
    return counts


class Resampling:
    """The same draws for several predictors of one gap.

    Args:
        gap: values, shape (n,), finite.
        clusters: of each row, shape (n,), 0 to K - 1.
        counts: times that each cluster is in each draw, shape (draws, K).
    """

    def __init__(
        self, gap: Floats, clusters: Whole, counts: NDArray[np.float32]
    ) -> None:
        self._layers, self._clusters, self._counts = (
            layers_of(clusters),
            clusters,
            counts,
        )
        self._gap = short(ranks(gap))
        self._untied = _untied(ranks(gap), clusters, counts)

    def taus(self, x: Floats) -> Floats:
        """Tau-b of each draw, shape (draws,); NaN where a value does not vary in it.

        Args:
            x: values of a predictor, shape (n,), finite.
        """
        ranked = ranks(x)
        untied = _untied(ranked, self._clusters, self._counts)
        with np.errstate(invalid="ignore", divide="ignore"):
            taus = self._products(short(ranked)) / np.sqrt(untied * self._untied)
        return np.clip(taus, -1.0, 1.0)

    def _products(self, x: NDArray[np.signedinteger]) -> Floats:
        """Sums of products of signs over ordered pairs, shape (draws,)."""
        layers, order, gap = self._layers, self._layers.order, self._gap
        others_x, others_gap = x[order], gap[order]

        def products(own: Whole) -> list[NDArray[np.int8]]:
            return [_signs(x[own], others_x) * _signs(gap[own], others_gap)]

        kind = np.float32 if len(x) * len(layers.rows) * 8 < EXACT else np.float64
        weights = self._counts[:, layers.clusters].astype(kind)
        total = np.zeros(len(weights))
        for part, (sums,) in layers.sums(products, 1):
            joint = weights @ sums.T.astype(kind)
            total += (joint * weights[:, part].astype(np.float64)).sum(axis=1)
        return total


def resampled(
    x: Floats, y: Floats, clusters: Whole, counts: NDArray[np.float32]
) -> Floats:
    """Tau-b of each draw, shape (draws,); see `Resampling`."""
    return Resampling(y, clusters, counts).taus(x)


def _signs(
    left: NDArray[np.signedinteger], right: NDArray[np.signedinteger]
) -> NDArray[np.int8]:
    """Signs of all differences, shape (len(left), len(right))."""
    above = (left[:, None] > right).view(np.int8)
    return above - (left[:, None] < right).view(np.int8)


def _untied(ranked: Whole, of: Whole, counts: NDArray[np.float32]) -> Floats:
    """Ordered pairs of each draw that differ in a value, shape (draws,)."""
    sizes = np.bincount(of, minlength=counts.shape[1]).astype(np.float64)
    weights = counts.astype(np.float64)
    total = np.square(weights @ sizes)
    # Rows that tie with none are pairs with their own copies alone.
    alone = np.bincount(ranked)[ranked] == 1
    single = np.bincount(of[alone], minlength=len(sizes)).astype(np.float64)
    total -= np.square(weights) @ single
    if alone.all():
        return total
    order = np.argsort(ranked[~alone], kind="stable")
    values, columns = ranked[~alone][order], of[~alone][order]
    starts, step = np.flatnonzero(np.diff(values, prepend=-1)), max(BLOCK // len(of), 1)
    for first in range(0, len(counts), step):
        part = slice(first, first + step)
        tied = np.add.reduceat(weights[part, columns], starts, axis=1)
        total[part] -= np.square(tied).sum(axis=1)
    return total
