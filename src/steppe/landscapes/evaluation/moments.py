"""Means over samples at many points, and the errors of these means.

Shape letters: X points, B batches, K points at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steppe.batches import variance_by_batch
from steppe.errors import DataError

ROWS = 32  # points that are summed at once, where their values take little memory
VALUES = 2**21  # float64 numbers that wait for it, at most


class Moments:
    """Sums of values at X points and of their rises above a base, batch by batch.

    Squares are about the mean of a point's first batch, where they do not cancel. The
    sums of a point have the same bits whichever other points there are.

    Args:
        points: number X of points.
        base: values at the base point, of each batch in shape (terms,), float64.
        dependent: values of one batch may share what is random.
    """

    def __init__(
        self, points: int, base: Sequence[Tensor], *, dependent: bool = False
    ) -> None:
        self._base = base
        self._counts = [len(values) for values in base]
        # First the values, then their rises.
        self._origins = torch.zeros(2, points, dtype=torch.float64, device=_place(base))
        self._sums = torch.zeros_like(self._origins)
        self._squares = torch.zeros_like(self._origins)
        self._by_batch = (
            self._origins.new_zeros(len(base), 2, points) if dependent else None
        )
        self._waiting: list[Tensor] = []  # values at one point after the other
        self._next = (0, 0)  # batch and point of the first of them

    def add(self, batch: int, point: int, values: Tensor) -> None:
        """Add the values of a batch at a point, shape (terms,), or at K, (K, terms).

        Raises:
            DataError: another number of terms than at the base point.
        """
        rows = values if values.dim() == 2 else values.unsqueeze(0)
        count = self._counts[batch]
        if rows.shape[1] != count:
            raise DataError(
                f"the loss must give the same number of terms at every point, got "
                f"{rows.shape[1]} and, at the base point, {count} of batch {batch}."
            )
        if not count:
            return
        waiting = sum(map(len, self._waiting))
        if self._next != (batch, point - waiting):
            self._flush()
            self._next, waiting = (batch, point), 0
        self._waiting.append(rows)
        waiting += len(rows)
        if waiting >= ROWS or waiting * count >= VALUES:
            self._flush()

    def means(self) -> Tensor:
        """Means at all points, shape (X,); NaN where there is no value."""
        self._flush()
        return self._sums[0] / self._terms

    def variances(self) -> Tensor:
        """Variances of the means, shape (X,); inf where there is a single value."""
        return self._variances()[0]

    def rise_variances(self) -> Tensor:
        """The same of the means of the rises."""
        return self._variances()[1]

    @property
    def _terms(self) -> int:
        return sum(self._counts)

    def _flush(self) -> None:
        if not self._waiting:
            return
        batch, first = self._next
        values = torch.cat(self._waiting).double()
        at = slice(first, first + len(values))
        self._waiting = []
        self._next = (batch, at.stop)
        pair = torch.stack((values, values - self._base[batch]))
        if not any(self._counts[:batch]):
            self._origins[:, at] = pair.mean(2)
        sums = pair.sum(2)
        self._sums[:, at] += sums
        if self._by_batch is not None:
            self._by_batch[batch][:, at] = sums
        pair -= self._origins[:, at].unsqueeze(2)
        self._squares[:, at] += pair.square_().sum(2)

    def _variances(self) -> Tensor:
        self._flush()
        terms = self._terms
        if terms < 2:
            return torch.full_like(self._sums, math.inf)
        apart = self._sums / terms - self._origins
        variances = (self._squares / terms - apart.square()).clamp(min=0) / (terms - 1)
        if self._by_batch is None:
            return variances
        clustered = variance_by_batch(self._by_batch, self._counts)
        return torch.maximum(variances, clustered)


def _place(tensors: Sequence[Tensor]) -> torch.device:
    return tensors[0].device
