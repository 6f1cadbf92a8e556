"""The density of the eigenvalues of one matrix or several, with their ends."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from steppe.plots.canvas import (
    Look,
    Theme,
    canvas,
    legend,
    log_axis,
    looks,
    without_collisions,
)
from steppe.results import Spectrum

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 5000  # of the curve; the narrowest bells are a few of them wide
DECADES = 12  # of the axis at most


def density(
    spectra: Spectrum | Mapping[str, Spectrum],
    *,
    sigma: float | Literal["quadrature", "pyhessian"] = "quadrature",
    floor: float | None = None,
    theme: Theme = "light",
    xlabel: str = "eigenvalue",
) -> Figure:
    """Draw the density on a logarithmic axis; marks are the eigenvalues at the ends.

    Args:
        spectra: what to draw: one, or several by name on the same axes.
        sigma: width of the Gaussians, as in `Spectrum.density`.
        floor: is added to the density, so that gaps have a height; None for a tenth of
            the height of one eigenvalue alone, in the spectrum where that is highest.
            The published pictures have 1e-7.
        theme: "light" for dark ink on a light page, "dark" for the contrary.
        xlabel: what the eigenvalues are of.

    Raises:
        SettingError: a sigma out of range.
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    named = {"": spectra} if isinstance(spectra, Spectrum) else spectra
    curves = {n: each.density(sigma, points=POINTS) for n, each in named.items()}
    if floor is None:
        floor = max(_least(named[n], *curve, sigma) for n, curve in curves.items())
    handles: dict[str, Any] = {}
    highest = floor
    for name, (curve, top, bottom) in _looks(named, theme).items():
        grid, height = curves[name][0], curves[name][1] + floor
        highest = max(highest, float(height.max()))
        (line,) = axes.plot(
            grid, height, color=curve.colour, lw=1.4, ls=curve.dash if name else "-"
        )
        handles |= {name: line} if name else {}
        for end, pairs, look in (
            ("largest", named[name].top, top),
            ("smallest", named[name].bottom, bottom),
        ):
            count = len(pairs.values)
            if not count:
                continue
            (marks,) = axes.plot(
                pairs.values.tolist(),
                _heights(pairs.values, grid, height),
                look.marker,
                color=look.colour,
                markersize=4.5,
            )
            handles |= {} if name else {f"{count} {end}": marks}
    axes.set(xlabel=xlabel, ylabel="density")
    log_axis(axes, "y", [floor, highest])
    axes.set_ylim(floor / 2, highest * 3)
    axes.locator_params(axis="x", nbins=6)
    legend(figure, theme, handles)
    return without_collisions(figure)


def _looks(
    named: Mapping[str, Spectrum], theme: Theme
) -> dict[str, tuple[Look, Look, Look]]:
    """Looks of the curve, the largest and the smallest eigenvalues of each spectrum.

    Of one spectrum all three differ; several have a colour each.
    """
    if set(named) == {""}:
        curve, top, bottom = looks(("density", "top", "bottom"), theme).values()
        return {"": (curve, top, bottom)}
    return {name: (look, look, look) for name, look in looks(named, theme).items()}


def _least(
    spectrum: Spectrum,
    grid: Tensor,
    height: Tensor,
    sigma: float | Literal["quadrature", "pyhessian"],
) -> float:
    """A tenth of the height of one eigenvalue alone."""
    # The density is a mean over cells, so a narrow bell is as wide as its cell.
    step, width = float(grid[1] - grid[0]), spectrum.width(sigma)
    alone = math.erf(step / (2 * width * math.sqrt(2))) / (spectrum.size * step)
    return max(alone / 10, float(height.max()) * 10.0**-DECADES)


def _heights(values: Tensor, grid: Tensor, height: Tensor) -> list[float]:
    """Heights of the curve at eigenvalues."""
    places = torch.searchsorted(grid, values.to(grid.dtype)).clamp(max=len(grid) - 1)
    heights: list[float] = height[places].tolist()
    return heights
