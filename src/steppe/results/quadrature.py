"""Functions of the eigenvalues of a symmetric operator, by quadrature.

Shape letters: D parameters in all, M probes, m Krylov steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from steppe.errors import SettingError, check_positive, check_range
from steppe.results.estimate import Estimate

RELATIVE = (
    0.01  # alpha of the effective dimension, as a share of the largest eigenvalue
)
PRIOR = 4  # probes that the variance in theory is worth beside that between them


@dataclass(frozen=True)
class Measure:
    """Spectral measures of the starts of M probes, as h nodes and weights each."""

    nodes: Tensor  # (M, h) float64
    weights: Tensor  # (M, h), rows sum to 1

    def mean(self, function: Callable[[Tensor], Tensor]) -> float:
        """Mean of a function over eigenvalues and probes."""
        return float((self.weights * function(self.nodes)).sum(1).mean())


def spread(counts: Tensor, values: Tensor) -> float:
    """Variance of sum(counts * values) for one probe, about the mean of the values.

    A count of c eigenvalues is a chi-squared number of c degrees of freedom in theory,
    of variance 2 c; a node stands for one eigenvalue at least.

    Args:
        counts: eigenvalues that a node stands for, (M, m); 0 where that is exact.
        values: at the nodes, (M, m).
    """
    mean = (counts * values).sum() / counts.sum()
    weights = torch.where(counts > 0, counts.clamp(min=1), 0.0)
    return float(2 * (weights * (values - mean).square()).sum() / len(counts))


def _regressed(counts: Tensor, nodes: Tensor, values: Tensor) -> tuple[float, Tensor]:
    """Slope of values over nodes, and the residuals of the line, (M, m)."""
    total = counts.sum()
    apart = nodes - (counts * nodes).sum() / total
    square = float((counts * apart.square()).sum())
    slope = float((counts * apart * values).sum()) / square if square else 0.0
    return slope, values - slope * apart


@dataclass(frozen=True, kw_only=True, repr=False)
class Quadrature:
    """Eigenvalues of a symmetric operator as nodes of M probes, with their weights."""

    nodes: Tensor  # (M, m) Ritz values of each probe, ascending, float64
    weights: Tensor  # (M, m) shares of the spectrum they stand for; rows sum to 1
    single: Tensor  # (M, m) bool: stands for one eigenvalue, so its weight is exact
    starts: tuple[Measure, Measure]  # after all steps, and after 3 m / 4
    size: int  # number D of eigenvalues
    trace: Estimate

    def mean(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """Mean of a function over the D eigenvalues, by quadrature.

        It is exact where the nodes are all of them (`steps` >= D). Elsewhere the
        standard error is that of the weights which are not exact: the variance that
        random projections of these weights have, pooled with that between the probes,
        with the trace that was used taken into account, and the change in the
        last quarter of the steps. The theory counts as 4 probes more where there are
        several, in the variance and in `samples`, by which intervals are made.

        Args:
            function: of a tensor of eigenvalues, elementwise.
        """
        if self.nodes.shape[1] == self.size:
            return Estimate(value=float(function(self.nodes[0]).mean()))
        values = function(self.nodes)
        means = (self.weights * values).sum(1)
        drawn = self.weights.masked_fill(self.single, 0.0) * self.size
        probes = len(means)
        along, across = _regressed(drawn, self.nodes, values)
        variance = spread(drawn, across)
        rows = (self.weights * across).sum(1) * self.size
        between = float(rows.var()) if probes > 1 else 0.0
        # Few probes say little of their own spread: the variance that theory gives for
        # one probe stands in for PRIOR further ones.
        pooled = (PRIOR * variance + (probes - 1) * between) / (PRIOR + probes - 1)
        sums = spread(drawn, self.nodes) / probes
        sampled, noise = along**2 * sums, along**2 * self.trace.stderr**2
        traced = sampled * noise / (sampled + noise) if noise else 0.0
        full, early = (measure.mean(function) for measure in self.starts)
        # The change over the last quarter of the steps stands for that of further ones.
        coarse = (self.size * (full - early)) ** 2
        stderr = math.sqrt(pooled / probes + traced + coarse) / self.size
        # Intervals have the degrees of freedom of the pooled variance.
        samples = PRIOR + probes if probes > 1 else probes
        return Estimate(value=float(means.mean()), stderr=stderr, samples=samples)

    def effective_dimension(self, alpha: float | None = None) -> Estimate:
        """Sum of l / (l + alpha) over the positive eigenvalues l.

        An eigenvalue far above alpha counts 1, alpha itself a half, one far below
        nothing. Source: MacKay, 1992, doi:10.1162/neco.1992.4.3.415, where alpha is
        the precision of the prior.

        Args:
            alpha: in the units of the eigenvalues, > 0; None for a hundredth of the
                largest one, so that a loss in other units has the same dimension.

        Returns:
            Estimate; the details hold alpha. 0 where no eigenvalue is positive.

        Raises:
            SettingError: alpha is not positive.
        """
        if alpha is None:
            largest = float(self.nodes.max())
            alpha = RELATIVE * largest if largest > 0 else 1.0
        check_positive("alpha", alpha)
        dimension = self._summed(lambda v: v.clamp(min=0) / (v.clamp(min=0) + alpha))
        return replace(dimension, details={"alpha": alpha})

    def log_determinant(self, shift: float = 0.0) -> Estimate:
        """Logarithm of the determinant of H + shift I.

        Args:
            shift: larger than minus the smallest eigenvalue.

        Raises:
            SettingError: H + shift I is not positive.
        """
        check_range("shift", shift)
        low = float(self.nodes.min())
        if not low + shift > 0:
            raise SettingError(
                f"shift must be > {-low:.3g}, minus the smallest eigenvalue, "
                f"got {shift}."
            )
        return self._summed(lambda v: (v + shift).log())

    def _summed(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        mean = self.mean(function)
        return Estimate(
            value=self.size * mean.value,
            stderr=self.size * mean.stderr,
            samples=mean.samples,
        )
