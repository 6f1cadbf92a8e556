"""Tables of all pairs of rows, summed over the rows of each two clusters.

The first layer has one row of each cluster, the second one more of those that have two,
and so on, the largest clusters first: sums over clusters are sums of whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe_lab.statistics.concordance import SHORT
from steppe_lab.statistics.tables import Whole

BLOCK = 500_000  # pairs of rows at a time: a few of them fit into the cache
EXACT = 2**24  # whole numbers up to here are exact in single precision
SMALL = 127  # sums up to here have 8 bits

Pairs = NDArray[np.int8]
Sums = NDArray[np.int32]


@dataclass(frozen=True)
class Layers:
    """Rows in the order of their layers."""

    clusters: Whole  # (K,), the largest first
    rows: tuple[Whole, ...]  # of each layer; the j-th is of the j-th cluster

    @property
    def order(self) -> Whole:
        """All rows, shape (n,)."""
        none = np.zeros(0, dtype=np.int64)
        return np.concatenate([none, *self.rows])

    def sums(
        self, tables: Callable[[Whole], Sequence[Pairs]], count: int
    ) -> Iterator[tuple[slice, list[Sums]]]:
        """Tables of pairs, summed over the rows of two clusters each.

        Args:
            tables: of given rows, shape (rows, n), with the columns in `order`.
            count: of the tables.

        Yields:
            Blocks of clusters, as places in `clusters`, and the sums of their rows with
            those of every cluster, shape (block, K) each.
        """
        k = len(self.clusters)
        step = max(BLOCK // max(sum(map(len, self.rows)), 1), 1)
        for first in range(0, k, step):
            part = slice(first, min(first + step, k))
            shape = (part.stop - first, k)
            totals = [np.zeros(shape, dtype=np.int32) for _ in range(count)]
            for layer in self.rows:
                own = layer[part]
                if len(own):
                    for total, table in zip(totals, tables(own), strict=True):
                        total[: len(own)] += self._folded(table)
            yield part, totals

    def _folded(self, table: Pairs) -> Pairs | Sums:
        """Columns summed by cluster, shape (rows, K)."""
        start = len(self.rows[0])
        few = len(self.rows) <= SMALL
        folded: Any = table[:, :start].astype(np.int8 if few else np.int32)
        for layer in self.rows[1:]:
            folded[:, : len(layer)] += table[:, start : start + len(layer)]
            start += len(layer)
        summed: Pairs | Sums = folded
        return summed


def layers_of(clusters: Whole) -> Layers:
    """Layers of rows.

    Args:
        clusters: of each row, shape (n,), 0 to K - 1, each of which occurs.
    """
    sizes = np.bincount(clusters)
    largest = np.argsort(-sizes, kind="stable")
    order, ends = np.argsort(clusters, kind="stable"), np.cumsum(sizes)
    starts = (ends - sizes)[largest]
    rows = [
        order[starts[sizes[largest] > number] + number]
        for number in range(int(sizes.max(initial=0)))
    ]
    return Layers(largest, tuple(rows))


def short(ranked: Whole) -> NDArray[np.signedinteger]:
    """Ranks in few bits, which compare in less time."""
    return ranked.astype(np.int16 if len(ranked) <= SHORT else np.int32)
