"""Means over samples at many points, and the errors of these means.

Shape letters: X points, B batches, K points at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from steppe.batches import variance_by_batch
from steppe.errors import DataError

ROWS = 32  # points that are summed at once, where their values take little memory
VALUES = 2**21  # float64 numbers that wait for it, at most


@dataclass(frozen=True)
class BaseValues:
    """Values at the base point, which those at all others are compared with."""

    batches: Sequence[Tensor]  # of those that are evaluated, (terms,) float64 each
    mean: float  # over all of the data
    terms: int  # N of all of the data

    @property
    def share(self) -> float:
        """Of the data that is evaluated."""
        return sum(map(len, self.batches)) / self.terms if self.terms else 1.0

    def paired(self) -> bool:
        """Whether points are compared with the base: it is finite, and data left."""
        finite = all(bool(torch.isfinite(values).all()) for values in self.batches)
        return self.share < 1 and math.isfinite(self.mean) and finite


class Moments:
    """Sums of values at X points and of their rises above the base, batch by batch.

    The mean at a point over a part of the data is that at the base over all of it and
    the mean rise over the part: the base point is a control variate whose mean is
    known (Owen, 2013, Monte Carlo theory, methods and examples, section 8.9, with a
    coefficient of 1). Near the base its error is much smaller than that of the mean.
    With V(x) the variance of the mean of x over the n terms of the part, out of N, the
    variances are (Cochran, 1977, Sampling Techniques, section 2.5)

        of the mean, for samples like these:  (n / N) V(values) + (1 - n / N) V(rises)
        of the mean, for these N samples:     (1 - n / N) V(rises)
        of the rise, for samples like these:  V(rises)

    Squares are about the mean of a point's first batch, where they do not cancel. The
    sums of a point have the same bits whichever other points there are.

    Args:
        points: number X of points.
        base: values at the base point.
        dependent: values of one batch may share what is random.
    """

    def __init__(
        self, points: int, base: BaseValues, *, dependent: bool = False
    ) -> None:
        self._base = base
        self._paired = base.paired()
        self._counts = [len(values) for values in base.batches]
        # First the values, then their rises.
        self._origins = torch.zeros(
            2, points, dtype=torch.float64, device=base.batches[0].device
        )
        self._sums = torch.zeros_like(self._origins)
        self._squares = torch.zeros_like(self._origins)
        self._by_batch = (
            self._origins.new_zeros(len(self._counts), 2, points) if dependent else None
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
        means = self._sums / sum(self._counts)
        return self._base.mean + means[1] if self._paired else means[0]

    def variances(self) -> Tensor:
        """Variances of the means for samples like these, shape (X,); inf for one."""
        share = self._base.share
        return share * self._of_means()[0] + self.subset_variances()

    def subset_variances(self) -> Tensor:
        """Variances of the means for the samples of the data; 0 with all of them."""
        left = 1 - self._base.share
        if left <= 0:
            return torch.zeros_like(self._sums[0])
        return left * self._of_means()[int(self._paired)]

    def rise_variances(self) -> Tensor:
        """Variances of the mean rises for samples like these; inf for one."""
        return self._of_means()[1]

    def _flush(self) -> None:
        if not self._waiting:
            return
        batch, first = self._next
        values = torch.cat(self._waiting).double()
        at = slice(first, first + len(values))
        self._waiting = []
        self._next = (batch, at.stop)
        pair = torch.stack((values, values - self._base.batches[batch]))
        if not any(self._counts[:batch]):
            self._origins[:, at] = _row_sums(pair) / values.shape[1]
        sums = _row_sums(pair)
        self._sums[:, at] += sums
        if self._by_batch is not None:
            self._by_batch[batch][:, at] = sums
        pair -= self._origins[:, at].unsqueeze(2)
        self._squares[:, at] += _row_sums(pair.square_())

    def _of_means(self) -> Tensor:
        """V of the values and of their rises, shape (2, X)."""
        self._flush()
        terms = sum(self._counts)
        if terms < 2:
            return torch.full_like(self._sums, math.inf)
        apart = self._sums / terms - self._origins
        variances = (self._squares / terms - apart.square()).clamp(min=0) / (terms - 1)
        if self._by_batch is None:
            return variances
        clustered = variance_by_batch(self._by_batch, self._counts)
        return torch.maximum(variances, clustered)


def _row_sums(pair: Tensor) -> Tensor:
    """Sums over the terms of a batch at K points, from shape (2, K, terms) to (2, K).

    Accelerators choose the order of a sum by the number of rows too; processors do not.
    """
    rows = pair if pair.device.type == "cpu" else with_all_rows(pair)
    return rows.sum(2)[:, : pair.shape[1]]


def with_all_rows(pair: Tensor) -> Tensor:
    """Rows of K points with zeros below, as many as are summed at once at most."""
    count, terms = pair.shape[1:]
    most = min(ROWS, math.ceil(VALUES / terms))
    return pad(pair, (0, 0, 0, max(0, most - count)))
