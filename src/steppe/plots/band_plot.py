"""The loss along several lines of each kind: their median, quartiles and range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from steppe.errors import SettingError
from steppe.plots.canvas import (
    Theme,
    canvas,
    legend,
    log_axis,
    looks,
    wants_log,
    without_collisions,
)
from steppe.plots.line_values import along
from steppe.plots.planes.values import LOSS, Array
from steppe.surfaces import Surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bands(
    surfaces: Mapping[str, Sequence[Surface]],
    *,
    quantity: str = LOSS,
    xlabel: str = "distance along the line",
    ylabel: str = "",
    theme: Theme = "light",
) -> Figure:
    """Draw the median of the lines of each name, with bands for how much they differ.

    One random line says little of a network: another has another shape. The dark band
    lies between the quartiles, the pale one between the least and the largest value.
    Where a line has no finite value, the others make the band.

    Args:
        surfaces: by name of what is compared, lines of several seeds with the same
            coordinates.
        quantity: as in `contour`.
        xlabel: what the coordinate is.
        ylabel: what the values are; empty for the name of the quantity.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: surfaces of other than one axis, lines of a name with different
            coordinates, or no such quantity.
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    handles, every, words = {}, [], ""
    for name, look in looks(surfaces, theme).items():
        runs = [along(each, quantity, figure="bands") for each in surfaces[name]]
        if not runs:
            continue
        words = words or runs[0].words
        x = runs[0].x
        if any(not np.array_equal(run.x, x) for run in runs):
            raise SettingError(
                f"lines of {name!r} must have the same coordinates; evaluate each at "
                "the same x."
            )
        low, lower, median, upper, high = _quantiles(
            np.stack([run.values for run in runs])
        )
        every += [*low.tolist(), *high.tolist()]
        if len(runs) > 1:
            axes.fill_between(x, low, high, color=look.colour, alpha=0.12, lw=0)
            axes.fill_between(x, lower, upper, color=look.colour, alpha=0.25, lw=0)
        label = name if len(runs) == 1 else f"{name} ({len(runs)} lines)"
        (handles[label],) = axes.plot(x, median, color=look.colour, ls=look.dash, lw=2)
    axes.set(xlabel=xlabel, ylabel=ylabel or words)
    axes.locator_params(axis="x", nbins=5)
    if quantity == LOSS and wants_log(every):
        log_axis(axes, "y", [value for value in every if value == value])
    legend(figure, theme, handles, least=1)
    return without_collisions(figure)


def _quantiles(values: Array) -> Array:
    """Least value, quartiles and largest value over the lines; (5, X)."""
    empty = np.isnan(values).all(axis=0)
    # A column without a number stays one; numpy would warn of it.
    filled = np.where(empty, 0.0, values)
    levels: Array = np.nanquantile(filled, (0, 0.25, 0.5, 0.75, 1), axis=0)
    return np.where(empty, np.nan, levels)
