"""The loss on a plane as lines of equal values.

Source: Li et al., 2018, Visualizing the Loss Landscape of Neural Nets,
arXiv:1712.09913; its code draws levels at a fixed distance on a linear scale.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.plots.canvas import FONT, Theme, gradient, page_of
from steppe.plots.planes.colours import filling, lines_of
from steppe.plots.planes.overlays import mark
from steppe.plots.planes.panels import NUMBER, Panel, Request, drawn, normalised
from steppe.plots.planes.scale import Scale
from steppe.plots.planes.values import LOSS, Surfaces

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NUMBERED = 10  # lines with a number at most


def contour(
    surfaces: Surfaces,
    *,
    quantity: str = LOSS,
    log: bool | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    points: bool = False,
    theme: Theme = "light",
) -> Figure:
    """Draw lines of equal values of one surface, or of several on one scale.

    Marks are the point of the lowest loss, the base point, and the trajectories and
    arrows of the surface. A checkpoint has the colour of its own loss; it is the paler
    and smaller the further it is off the plane. Where a value is not finite the picture
    is hatched. The footer has the recipe.

    Args:
        surfaces: of two axes; several by name stand side by side, with the same levels.
        quantity: "loss", "stderr", "rise" (the loss minus that at the base point),
            "rise_stderr", the name of a quantity beside the loss, that name with
            "_stderr", or "eigenvalue_ratio" of a surface with both ends of the
            spectrum.
        log: whether levels are spread over decades; None for losses that are nowhere
            negative and span more than a factor of 30.
        vmin: least level; the published pictures have 0.1.
        vmax: largest level; the published pictures have 10.
        vlevel: distance of the levels, on a linear scale; the published pictures have
            0.5. None for round numbers.
        points: show where the surface was evaluated.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: a surface of other than two axes or with an axis of one point, no
            such quantity, or a scale that is none.
        UsageError: matplotlib is not installed.
    """
    request = Request("contour", quantity, log, vmin, vmax, vlevel, theme)
    draw = partial(_draw_lines, theme=theme, points=points)
    return drawn(surfaces, request, draw, lines_of)


def contourf(
    surfaces: Surfaces,
    *,
    quantity: str = LOSS,
    log: bool | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    points: bool = False,
    theme: Theme = "light",
) -> Figure:
    """Draw the same as `contour` with the space between the lines filled.

    Args:
        surfaces: as in `contour`.
        quantity: as in `contour`.
        log: as in `contour`.
        vmin: as in `contour`; values below have the colour of the lower end.
        vmax: as in `contour`; values above have the colour of the upper end.
        vlevel: as in `contour`.
        points: as in `contour`.
        theme: as in `contour`.

    Raises:
        SettingError: as in `contour`.
        UsageError: matplotlib is not installed.
    """
    request = Request("contourf", quantity, log, vmin, vmax, vlevel, theme)
    draw = partial(draw_filled, theme=theme, points=points)
    return drawn(surfaces, request, draw, filling)


def _draw_lines(
    panel: Panel, scale: Scale, *, theme: Theme, points: bool
) -> dict[str, Any]:
    from matplotlib.patheffects import withStroke

    grid, colours = panel.shown, lines_of(theme)
    values = np.ma.masked_invalid(grid.values)
    levels = _crossed(panel, scale)
    if levels:
        shades = gradient(theme)
        share = normalised(scale)
        drawn_lines = panel.axes.contour(
            grid.x,
            grid.y,
            values,
            levels=levels,
            colors=[shades[round(float(share(v)) * (len(shades) - 1))] for v in levels],
            linewidths=1.5,
            linestyles="solid",
        )
        # Numbers on more lines would lie on each other.
        named = set(levels) & set(scale.few_levels(_NUMBERED))
        numbers = panel.axes.clabel(
            drawn_lines,
            sorted(named),
            fmt=lambda v: f"{v:g}",
            fontsize=FONT - 3,
            inline=False,  # a number that is removed later leaves no gap
        )
        around = [withStroke(linewidth=4, foreground=page_of(theme))]
        for number in numbers:
            number.set(gid=NUMBER, path_effects=around)
    return mark(panel, scale, theme, colours, filled=False, points=points, cells=False)


def draw_filled(
    panel: Panel, scale: Scale, *, theme: Theme, points: bool = False
) -> dict[str, Any]:
    """Draw the filled contours of a panel and its marks.

    Args:
        panel: to draw on.
        scale: of its colours.
        theme: of the figure.
        points: show where the surface was evaluated.

    Returns:
        Handles of a legend, by name.
    """
    grid, colours = panel.shown, filling(theme)
    values = np.ma.masked_invalid(grid.values)
    if grid.finite.any():
        # Values of at most 0 have no logarithm: they lie at the lower end.
        clipped = np.ma.clip(values, scale.low, scale.high)
        ends = sorted({scale.low, *scale.levels, scale.high})
        panel.axes.contourf(
            grid.x,
            grid.y,
            clipped,
            levels=ends,
            cmap=colours,
            norm=normalised(scale),
        )
    levels = _crossed(panel, scale)
    if levels:
        panel.axes.contour(
            grid.x,
            grid.y,
            values,
            levels=levels,
            colors="#000001",
            linewidths=0.5,
            linestyles="solid",
            alpha=0.45,
        )
    return mark(panel, scale, theme, colours, filled=True, points=points, cells=False)


def _crossed(panel: Panel, scale: Scale) -> list[float]:
    """Levels between the least and the largest value of a panel."""
    known = panel.shown.values[panel.shown.finite]
    if not known.size:
        return []
    return [level for level in scale.levels if known.min() < level < known.max()]
