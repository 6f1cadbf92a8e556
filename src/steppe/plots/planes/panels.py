"""Panels of one figure that share a scale: axes, names, colour bar, footer."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.plots.canvas import (
    FONT,
    Theme,
    grid_of,
    ink_of,
    legend,
    sheet,
    style,
    without_collisions,
)
from steppe.plots.planes.scale import Scale, extension, scale_of
from steppe.plots.planes.values import (
    Shown,
    Surfaces,
    axis_names,
    by_name,
    edges,
    shown,
)
from steppe.plots.planes.words import footer
from steppe.surfaces import Surface

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

COLUMNS = 3  # of panels at most
SMALL = 7.5  # points, of the footer
NUMBER = "number on a line"
_MARGIN = 0.02  # of the figure's width, beside the footer
_PANEL = (3.5, 3.2)  # inches of each of several panels
_ALONE = (4.6, 3.6)
_APART = 7.0  # points, of numbers below the axes
_SLENDER = 3.0  # ratio of the sides beyond which axes do not share a unit


@dataclass(frozen=True)
class Panel:
    """One surface of a figure and the axes that it is drawn on."""

    name: str
    surface: Surface
    shown: Shown
    axes: Axes


@dataclass(frozen=True)
class Request:
    """Settings that all figures of planes have."""

    figure: str  # name of the function, for messages
    quantity: str
    log: bool | None
    vmin: float | None
    vmax: float | None
    vlevel: float | None
    theme: Theme

    def shown(self, surfaces: Surfaces) -> dict[str, tuple[Surface, Shown]]:
        """Each surface by name, with the quantity that is asked for."""
        return {
            name: (surface, shown(surface, self.quantity, figure=self.figure))
            for name, surface in by_name(surfaces).items()
        }

    def scale(self, every: Sequence[Shown]) -> Scale:
        """The scale of all of them."""
        return scale_of(
            [each.values for each in every],
            log=self.log,
            vmin=self.vmin,
            vmax=self.vmax,
            vlevel=self.vlevel,
            may_be_log=every[0].in_loss,
        )


def drawn(
    surfaces: Surfaces,
    request: Request,
    draw: Callable[[Panel, Scale], dict[str, Any]],
    colours: Callable[[Theme], Colormap],
    *,
    cells: bool = False,
    projection: str | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """A figure with a panel for each surface, on one scale.

    Args:
        surfaces: one, or several by name.
        request: settings.
        draw: draws a panel on a scale; returns handles of a legend by name.
        colours: the map of colours of a theme.
        cells: values fill the cells around points, not those between them.
        projection: "3d" for axes with a height.
        notes: further sentences of the footer.
    """
    chosen = request.shown(surfaces)
    every = [each for _, each in chosen.values()]
    scale = request.scale(every)
    columns = min(len(chosen), COLUMNS)
    rows = math.ceil(len(chosen) / columns)
    width, height = _ALONE if len(chosen) == 1 else _PANEL
    figure = sheet(columns * width, rows * height)
    panels: list[Panel] = []
    handles: dict[str, Any] = {}
    for place, (name, (surface, quantity)) in enumerate(chosen.items(), start=1):
        grid = (rows, columns, place)
        axes = _axes(figure, grid, projection, request.theme)
        style(axes, request.theme)
        panel = Panel(name, surface, quantity, axes)
        panels.append(panel)
        handles |= draw(panel, scale)
        if projection is None:
            dress(panel, cells=cells)
        axes.set_title(name, color=ink_of(request.theme), fontsize=FONT)
    colour_bar(figure, panels, scale, request.theme, colours(request.theme))
    legend(figure, request.theme, handles, least=1)
    named = {name: surface for name, (surface, _) in chosen.items()}
    lines = [*footer(named, request.quantity), *notes]
    put_footer(figure, lines, request.theme)
    without_collisions(figure)
    for panel in panels:
        without_cut_numbers(panel.axes)
    return figure


def normalised(scale: Scale) -> Normalize:
    """From values to shares of a colour map."""
    from matplotlib.colors import LogNorm, Normalize

    # Overlays have values beyond both ends, which have the colours of the ends.
    kind = LogNorm if scale.log else Normalize
    return kind(vmin=scale.low, vmax=scale.high, clip=True)


def _axes(
    figure: Figure, place: tuple[int, int, int], projection: str | None, theme: Theme
) -> Axes:
    import matplotlib

    # Axes with a height read the colour of their grid once, when they are made.
    with matplotlib.rc_context({"grid.color": grid_of(theme), "grid.linewidth": 0.6}):
        return figure.add_subplot(*place, projection=projection, facecolor="none")


def dress(panel: Panel, *, cells: bool = False) -> None:
    """Name the axes of a panel, give both one unit where they have one, and a frame.

    Args:
        panel: that is drawn.
        cells: values fill the cells around points, not those between them.
    """
    axes, grid = panel.axes, panel.shown
    xlabel, ylabel = axis_names(panel.surface)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    wide, high = grid.x[-1] - grid.x[0], grid.y[-1] - grid.y[0]
    # What follows the comma is of the axis alone, such as an eigenvalue.
    units = {unit.split(",")[0] for unit in panel.surface.axes}
    alike = len(units) < 2
    if alike and 1 / _SLENDER <= wide / high <= _SLENDER:
        axes.set_aspect("equal", adjustable="box")
    x, y = (edges(grid.x), edges(grid.y)) if cells else (grid.x, grid.y)
    axes.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))
    axes.locator_params(nbins=5)
    # The first numbers of both axes would meet in the corner.
    axes.tick_params(axis="x", pad=_APART)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set(visible=True, zorder=6)


def without_cut_numbers(axes: Axes) -> None:
    """Remove numbers on lines that the edge of the picture or a mark would cut."""
    marks = [
        line.get_transform().transform(points)[0]
        for line in axes.lines
        if len(points := np.asarray(line.get_xydata())) == 1
    ]
    for text in list(axes.texts):
        if text.get_gid() != NUMBER:
            continue
        box = text.get_window_extent()
        inside = all(axes.bbox.contains(x, y) for x, y in (box.min, box.max))
        if not inside or any(box.padded(_APART).contains(*mark) for mark in marks):
            text.remove()


def colour_bar(
    figure: Figure,
    panels: Sequence[Panel],
    scale: Scale,
    theme: Theme,
    colours: Colormap,
) -> None:
    """A bar beside panels with the colours of their scale.

    Args:
        figure: to change.
        panels: of one scale.
        scale: of their values.
        theme: of the figure.
        colours: of the values.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

    mapped: ScalarMappable = ScalarMappable(normalised(scale), colours)
    bar = figure.colorbar(
        mapped,
        ax=[panel.axes for panel in panels],
        extend=extension(scale, [panel.shown.values for panel in panels]),
        shrink=0.9,
        aspect=24,
        pad=0.02,
    )
    places = scale.few_levels()
    bar.ax.yaxis.set_major_locator(FixedLocator(places))
    bar.ax.yaxis.set_major_formatter(FixedFormatter([f"{v:g}" for v in places]))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.tick_params(labelsize=FONT - 1, colors=ink_of(theme), length=0)
    bar.outline.set_visible(False)
    bar.set_label(panels[0].shown.words, color=ink_of(theme), fontsize=FONT)


def put_footer(figure: Figure, facts: Sequence[str], theme: Theme) -> None:
    """Write facts in small letters below everything, as wide as the figure."""
    text = " · ".join(facts)
    letters = int((1 - 2 * _MARGIN) * figure.get_figwidth() * 72 / (0.54 * SMALL))
    lines = textwrap.wrap(text, letters)
    height = figure.get_figheight() + len(lines) * 1.35 * SMALL / 72
    figure.set_figheight(height)
    figure.supxlabel(
        "\n".join(lines),
        x=_MARGIN,
        ha="left",
        fontsize=SMALL,
        color=ink_of(theme),
        linespacing=1.3,
    )
