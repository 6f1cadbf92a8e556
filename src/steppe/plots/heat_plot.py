"""The values on a plane as coloured cells, one for each point."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.plots.canvas import Theme
from steppe.plots.planes.colours import filling
from steppe.plots.planes.overlays import mark
from steppe.plots.planes.panels import Panel, Request, drawn, normalised
from steppe.plots.planes.scale import Scale
from steppe.plots.planes.values import LOSS, Surfaces, edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def heat(
    surfaces: Surfaces,
    *,
    quantity: str = LOSS,
    log: bool | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    points: bool = False,
    theme: Theme = "light",
) -> Figure:
    """Draw a cell around each point, coloured by its value; nothing is interpolated.

    Args:
        surfaces: of two axes; several by name stand side by side, on one scale.
        quantity: as in `contour`.
        log: whether colours are spread over decades; None for losses that are nowhere
            negative and span more than a factor of 30.
        vmin: lower end of the colours; values below have its colour.
        vmax: upper end of the colours; values above have its colour.
        points: show where the surface was evaluated.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: a surface of other than two axes or with an axis of one point, no
            such quantity, or a scale that is none.
        UsageError: matplotlib is not installed.
    """
    request = Request("heat", quantity, log, vmin, vmax, None, theme)
    draw = partial(_draw, theme=theme, points=points)
    return drawn(surfaces, request, draw, filling, cells=True)


def _draw(panel: Panel, scale: Scale, *, theme: Theme, points: bool) -> dict[str, Any]:
    grid, colours = panel.shown, filling(theme)
    values = np.ma.masked_invalid(grid.values)
    panel.axes.pcolormesh(
        edges(grid.x),
        edges(grid.y),
        np.ma.clip(values, scale.low, scale.high),
        cmap=colours,
        norm=normalised(scale),
        rasterized=True,
    )
    return mark(panel, scale, theme, colours, filled=True, points=points, cells=True)
