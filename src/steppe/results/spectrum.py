"""The spectrum of a symmetric operator, seen by quadrature.

Shape letters: D parameters in all, K eigenpairs, M probes, m Krylov steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import torch
from torch import Tensor

from steppe.errors import SettingError, check_count
from steppe.results.eigenpairs import Eigenpairs
from steppe.results.estimate import Estimate
from steppe.results.plain import plain
from steppe.results.quadrature import Quadrature
from steppe.results.tables import AbstractTabulated, Table


@dataclass(frozen=True, kw_only=True, repr=False)
class Spectrum(Quadrature, AbstractTabulated):
    """The spectrum of a symmetric operator: its ends, its sums and its density."""

    top: Eigenpairs  # the K largest
    bottom: Eigenpairs  # the K smallest
    frobenius: Estimate
    products: int  # operator-vector products used
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ritz_sum(self) -> float:
        """Sum of the Ritz values, averaged over the probes.

        Not the trace, under whose name it was published (Bisla et al., 2022).
        """
        return float(self.nodes.sum(1).mean())

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
        grid = torch.linspace(low, high, points, dtype=torch.float64, device="cpu")
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
