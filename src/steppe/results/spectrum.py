"""The spectrum of a symmetric operator, seen by quadrature.

Shape letters: D parameters in all, K eigenpairs, M probes, m Krylov steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from steppe.errors import SettingError, check_count, check_positive, check_range
from steppe.results.eigenpairs import Eigenpairs
from steppe.results.estimate import Estimate
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table

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
class Spectrum(AbstractTabulated):
    """The spectrum of a symmetric operator: its ends, its sums and its density."""

    nodes: Tensor  # (M, m) Ritz values of each probe, ascending, float64
    weights: Tensor  # (M, m) shares of the spectrum they stand for; rows sum to 1
    single: Tensor  # (M, m) bool: stands for one eigenvalue, so its weight is exact
    starts: tuple[Measure, Measure]  # after all steps, and after 3 m / 4
    size: int  # number D of eigenvalues
    top: Eigenpairs  # the K largest
    bottom: Eigenpairs  # the K smallest
    trace: Estimate
    frobenius: Estimate
    products: int  # operator-vector products used
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ritz_sum(self) -> float:
        """Sum of the Ritz values, averaged over the probes.

        Not the trace, under whose name it was published (Bisla et al., 2022).
        """
        return float(self.nodes.sum(1).mean())

    def mean(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """Mean of a function over the D eigenvalues, by quadrature.

        It is exact where the nodes are all of them (`steps` >= D). Elsewhere the
        standard error is that of the weights which are not exact: the variance that
        random projections of these weights have, pooled with that between the probes,
        with the trace that was used taken into account, and the change in the
        last quarter of the steps.

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
        return Estimate(value=float(means.mean()), stderr=stderr, samples=probes)

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

    def density(
        self,
        sigma: float | Literal["quadrature", "pyhessian"] = "quadrature",
        *,
        points: int = 1000,
    ) -> tuple[Tensor, Tensor]:
        """Share of the eigenvalues per unit of their value, smoothed by a Gaussian.

        Args:
            sigma: standard deviation of the Gaussian, in the units of the eigenvalues;
                "quadrature" for what `m` nodes resolve, range / ((m - 1) sqrt(8 ln 3))
                (Lin et al., 2016, doi:10.1137/130934283), "pyhessian" for the variance
                1e-5 max(1, range) that draws a comb of the nodes (Yao et al., 2020,
                arXiv:1912.07145).
            points: of the grid, which spans the spectrum and three sigma on each side,
                or a cell where that is more.

        Returns:
            Eigenvalues, shape (points,), and densities, shape (points,), float64. They
            are means over the cells of the grid, so that none is lost between two
            points, and integrate to 1.

        Raises:
            SettingError: a sigma or a number of points out of range.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        width = self.width(sigma)
        check_count("points", points, 2)
        margin = max(3 * width, 2 * (high - low) / points)
        low, high = low - margin, high + margin
        grid = torch.linspace(low, high, points, dtype=torch.float64)
        step = (high - low) / (points - 1)
        edges = torch.cat([grid - step / 2, grid[-1:] + step / 2])
        shares = torch.zeros_like(grid)
        for nodes, weights in zip(self.nodes, self.weights, strict=True):
            below = torch.special.ndtr((edges[:, None] - nodes) / width)
            shares += below.diff(dim=0) @ weights
        density = shares / step
        return grid, density / torch.trapezoid(density, grid)

    def width(
        self, sigma: float | Literal["quadrature", "pyhessian"] = "quadrature"
    ) -> float:
        """Standard deviation of the Gaussians of the density.

        Args:
            sigma: as in `density`.

        Raises:
            SettingError: a sigma out of range.
        """
        low, high = float(self.nodes.min()), float(self.nodes.max())
        return _width(sigma, low, high, self.nodes.shape[1])

    def to_dict(self) -> dict[str, Any]:
        """Ends, sums, nodes and their weights as JSON has them, without the vectors."""
        names = (f.name for f in fields(self))
        return {n: plain(getattr(self, n)) for n in names if n != "starts"}

    def table(self) -> Table:
        """The ends and the sums."""
        done = self.top.converged and self.bottom.converged
        ending = "" if done else "; not all eigenvalues within the asked tolerance"
        tops = enumerate(self.top.values.tolist(), 1)
        rows = [
            *((f"eigenvalue {n}", f"{value:.6g}") for n, value in tops),
            ("smallest eigenvalue", f"{float(self.bottom.values.min()):.6g}"),
            ("trace", str(self.trace)),
            ("Frobenius norm", str(self.frobenius)),
            ("effective dimension", str(self.effective_dimension())),
        ]
        note = f"{self.size} eigenvalues, {self.products} products{ending}."
        return Table(("quantity", "value"), rows, [note])

    def _summed(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        mean = self.mean(function)
        return Estimate(
            value=self.size * mean.value,
            stderr=self.size * mean.stderr,
            samples=mean.samples,
        )


def _width(sigma: float | str, low: float, high: float, nodes: int) -> float:
    span, size = high - low, max(abs(low), abs(high))
    if sigma == "quadrature":
        if span <= 1e-6 * size:  # one eigenvalue only: any width shows it
            return 1e-3 * (size or 1.0)
        return span / ((nodes - 1) * math.sqrt(8 * math.log(3)))
    if sigma == "pyhessian":
        return math.sqrt(1e-5 * max(1.0, span))
    if isinstance(sigma, str) or not 0 < sigma < math.inf:
        raise SettingError(
            f"sigma must be > 0, 'quadrature' or 'pyhessian', got {sigma!r}."
        )
    return sigma
