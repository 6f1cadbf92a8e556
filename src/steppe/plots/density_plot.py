"""The density of the eigenvalues of a matrix, with the pairs at both ends."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from steppe.plots.canvas import (
    Theme,
    canvas,
    legend,
    looks,
    without_collisions,
)
from steppe.results import Spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 5000  # of the curve; the narrowest bells are a few of them wide
DECADES = 12  # of the axis at most


def density(
    spectrum: Spectrum,
    *,
    sigma: float | Literal["quadrature", "pyhessian"] = "quadrature",
    floor: float | None = None,
    theme: Theme = "light",
    xlabel: str = "eigenvalue",
) -> Figure:
    """Draw the density on a logarithmic axis; marks are the eigenvalues at the ends.

    Args:
        spectrum: what to draw.
        sigma: width of the Gaussians, as in `Spectrum.density`.
        floor: is added to the density, so that gaps have a height; None for a tenth of
            the height of one eigenvalue alone. The published pictures have 1e-7.
        theme: "light" for dark ink on a light page, "dark" for the contrary.
        xlabel: what the eigenvalues are of.

    Raises:
        SettingError: a sigma out of range.
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    grid, height = spectrum.density(sigma, points=POINTS)
    if floor is None:
        # The density is a mean over cells, so a narrow bell is as wide as its cell.
        step, width = float(grid[1] - grid[0]), spectrum.width(sigma)
        alone = math.erf(step / (2 * width * math.sqrt(2))) / (spectrum.size * step)
        floor = max(alone / 10, float(height.max()) * 10.0**-DECADES)
    height = height + floor
    curve, top, bottom = looks(("density", "top", "bottom"), theme).values()
    axes.semilogy(grid, height, color=curve.colour, lw=1.4)
    handles = {}
    for name, pairs, look in (
        ("largest", spectrum.top, top),
        ("smallest", spectrum.bottom, bottom),
    ):
        count = len(pairs.values)
        if count:
            (handles[f"{count} {name}"],) = axes.plot(
                pairs.values.tolist(),
                _heights(pairs.values, grid, height),
                look.marker,
                color=look.colour,
                markersize=4.5,
            )
    axes.set(xlabel=xlabel, ylabel="density")
    axes.set_ylim(floor / 2, float(height.max()) * 3)
    axes.locator_params(axis="x", nbins=6)
    legend(figure, theme, handles)
    return without_collisions(figure)


def _heights(values: Tensor, grid: Tensor, height: Tensor) -> list[float]:
    """Heights of the curve at eigenvalues."""
    places = torch.searchsorted(grid, values.to(grid.dtype)).clamp(max=len(grid) - 1)
    heights: list[float] = height[places].tolist()
    return heights
