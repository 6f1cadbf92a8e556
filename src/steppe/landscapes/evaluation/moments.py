"""Means over samples at many points, and the errors of these means.

Shape letters: X points, B batches.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from steppe.batches import variance_by_batch


class Moments:
    """Sums of values and of their squares at X points, batch by batch.

    Squares are about the mean of a point's first batch, where they do not cancel.

    Args:
        points: number X of points.
        batches: number B of batches.
        device: that the values are on.
    """

    def __init__(self, points: int, batches: int, device: torch.device) -> None:
        self._origins = torch.zeros(points, dtype=torch.float64, device=device)
        self._squares = torch.zeros_like(self._origins)
        self._sums = self._origins.new_zeros(batches, points)
        self._counts = [[0] * batches for _ in range(points)]

    def add(self, batch: int, point: int, values: Tensor) -> None:
        """Add the values of a batch at a point, shape (terms,), float64."""
        if not len(values):
            return
        if not any(self._counts[point]):
            self._origins[point] = values.mean()
        self._counts[point][batch] = len(values)
        self._sums[batch, point] = values.sum()
        self._squares[point] += (values - self._origins[point]).square().sum()

    def count(self, point: int) -> int:
        """Number of values at a point."""
        return sum(self._counts[point])

    def means(self) -> Tensor:
        """Means at all points, shape (X,); NaN where there is no value."""
        return self._total() / self._terms()

    def variances(self, *, dependent: bool) -> Tensor:
        """Variances of the means, shape (X,); inf where a single value tells nothing.

        Args:
            dependent: values of one batch may share what is random.
        """
        terms = self._terms()
        apart = self.means() - self._origins
        variances = (self._squares / terms - apart.square()).clamp(min=0) / (terms - 1)
        if dependent:
            for point, counts in enumerate(self._counts):
                clustered = variance_by_batch(self._sums[:, point], counts)
                variances[point] = torch.maximum(variances[point], clustered)
        return torch.where(terms < 2, math.inf, variances)

    def _total(self) -> Tensor:
        # Batch by batch, as they were added: the same bits however many points.
        total = torch.zeros_like(self._origins)
        for sums in self._sums:
            total += sums
        return total

    def _terms(self) -> Tensor:
        counts = [self.count(point) for point in range(len(self._counts))]
        return torch.tensor(counts, dtype=torch.float64, device=self._origins.device)
