"""The values on a plane as a shaded surface in three dimensions.

Source: Li et al., 2018, arXiv:1712.09913.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.errors import check_positive, check_range
from steppe.plots.canvas import FONT, Theme, grid_of, ink_of, page_of
from steppe.plots.planes.colours import filling
from steppe.plots.planes.overlays import (
    BASE,
    LOWEST,
    heights_of,
    lift,
    lowest_loss,
    named_paths,
)
from steppe.plots.planes.panels import Panel, Request, drawn, normalised
from steppe.plots.planes.scale import Scale
from steppe.plots.planes.values import LOSS, Array, Surfaces, axis_names, by_name
from steppe.plots.planes.words import short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LIGHT = (315.0, 40.0)  # degrees: azimuth and height of the light
_TALL = 0.75  # height of the box, of its width
_ZOOM = 0.9  # of the box, so that the names of its axes stay within
_DARKEST = 0.25  # share of light where the sun is below the surface
_CLIPPED = 0.95  # quantile of values that a linear axis goes up to


def surface3d(
    surfaces: Surfaces,
    *,
    quantity: str = LOSS,
    log: bool | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    clip: float | None = None,
    elevation: float = 35.0,
    azimuth: float = -60.0,
    theme: Theme = "light",
) -> Figure:
    """Draw one surface shaded by a light from the side, or several on one scale.

    Args:
        surfaces: of two axes; several by name stand side by side, with the same height.
        quantity: as in `contour`.
        log: whether the height is in decades; None for losses that are nowhere negative
            and span more than a factor of 30.
        vmin: lower end of the height; values below lie there.
        vmax: upper end of the height; values above lie there.
        clip: share of the values that lie below the upper end, where `vmax` is not
            given, in (0, 1]; None for 0.95 on a linear axis where the rest is more than
            twice as high, and for all of them otherwise.
        elevation: of the eye above the plane, in degrees.
        azimuth: of the eye around the plane, in degrees.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: a surface of other than two axes or with an axis of one point, no
            such quantity, a scale that is none, or a share out of range.
        UsageError: matplotlib is not installed.
    """
    check_range("elevation", elevation, -90.0, 90.0)
    check_range("azimuth", azimuth)
    request = Request("surface3d", quantity, log, vmin, vmax, None, theme)
    top, note = (vmax, "") if vmax is not None else _top(surfaces, request, clip)
    request = Request("surface3d", quantity, log, vmin, top, None, theme)
    draw = partial(_draw, theme=theme, eye=(elevation, azimuth))
    named = by_name(surfaces).values()
    names = dict.fromkeys(", ".join(axis_names(each)) for each in named)
    notes = [note for note in (*names, note) if note]
    return drawn(surfaces, request, draw, filling, projection="3d", notes=notes)


def _top(
    surfaces: Surfaces, request: Request, clip: float | None
) -> tuple[float | None, str]:
    """Upper end of the height, and a sentence where it cuts something off."""
    if clip is not None:
        check_positive("clip", clip)
        check_range("clip", clip, 0.0, 1.0)
    every = [each for _, each in request.shown(surfaces).values()]
    flat = np.concatenate([each.values[each.finite] for each in every])
    if not flat.size:
        return None, ""
    low, high = float(flat.min()), float(flat.max())
    end = float(np.quantile(flat, _CLIPPED if clip is None else clip))
    # A tip that is not much higher than the rest stays.
    stays = request.scale(every).log or high - low <= 2 * (end - low)
    if end <= low or end >= high or (clip is None and stays):
        return None, ""
    return end, f"cut off above {short(end)}; the highest value is {short(high)}"


def _draw(
    panel: Panel, scale: Scale, *, theme: Theme, eye: tuple[float, float]
) -> dict[str, Any]:
    grid = panel.shown
    axes: Any = panel.axes  # those with a height have no types
    _dress(panel, scale, theme)
    values = np.where(grid.finite, grid.values, np.nan)
    heights = scale.heights(np.clip(values, scale.low, scale.high))
    if grid.finite.any():
        x, y = np.meshgrid(grid.x, grid.y)
        axes.plot_surface(
            x,
            y,
            heights,
            facecolors=_shaded(panel, scale, heights, eye),
            rcount=len(grid.y),
            ccount=len(grid.x),
            linewidth=0,
            antialiased=False,
            shade=False,
            rasterized=True,
        )
    else:
        axes.text2D(0.5, 0.5, "no finite value", ha="center", transform=axes.transAxes)
        axes.texts[-1].set(color=ink_of(theme), fontsize=FONT)
    axes.view_init(*eye)
    axes.set_box_aspect((1, 1, _TALL), zoom=_ZOOM)
    return _marks(panel, scale, theme)


def _shaded(
    panel: Panel, scale: Scale, heights: Array, eye: tuple[float, float]
) -> Array:
    """Colours of facets, lighter and darker by the slope; (Y - 1, X - 1, 4).

    A facet has the mean of its four corners, on the scale of the colours.
    """
    from matplotlib.colors import LightSource

    grid = panel.shown
    span = float(np.ptp(heights[grid.finite])) or 1.0
    # Slopes are those of a box as wide as it is long, whatever the units are.
    level = np.where(grid.finite, heights, np.nanmin(heights)) / span * _TALL
    x, y = ((each - each[0]) / (each[-1] - each[0]) for each in (grid.x, grid.y))
    light = LightSource(*_LIGHT)
    slope_y, slope_x = np.gradient(level, y, x)

    def towards(azimuth: float, height: float) -> Array:
        """Cosine of the normal (-dz/dx, -dz/dy, 1) and a direction, in degrees."""
        along, up = math.radians(azimuth), math.radians(height)
        across = slope_x * math.cos(along) + slope_y * math.sin(along)
        cosine: Array = (math.sin(up) - across * math.cos(up)) / np.sqrt(
            1 + slope_x**2 + slope_y**2
        )
        return cosine

    # The lower side has light where the upper one has none.
    side = np.where(towards(eye[1], eye[0]) < 0, -1.0, 1.0)
    lit = side * towards(90 - _LIGHT[0], _LIGHT[1])
    # Little, so that the colours stay those of the colour bar: 0.5 changes none.
    lit = _DARKEST + (1 - 2 * _DARKEST) * np.clip(lit, 0, 1)
    values = np.where(grid.finite, grid.values, scale.low)
    shares = normalised(scale)(np.clip(values, scale.low, scale.high))
    colours = filling("light")(_of_facets(np.asarray(shares)))
    shaded = light.blend_soft_light(colours[..., :3], _of_facets(lit)[..., None])
    return np.dstack([np.clip(shaded, 0, 1), colours[..., 3]])


def _of_facets(corners: Array) -> Array:
    """Means over the four corners of each facet, (Y - 1, X - 1)."""
    rows = (corners[1:] + corners[:-1]) / 2
    means: Array = (rows[:, 1:] + rows[:, :-1]) / 2
    return means


def _dress(panel: Panel, scale: Scale, theme: Theme) -> None:
    from matplotlib.ticker import FixedFormatter, FixedLocator, MaxNLocator

    grid = panel.shown
    axes: Any = panel.axes
    # Slanted names have room for a letter; the footer says more, and the colour bar
    # what the height is.
    axes.set(xlabel=panel.surface.letters[0], ylabel=panel.surface.letters[1])
    axes.set(xlim=(grid.x[0], grid.x[-1]), ylim=(grid.y[0], grid.y[-1]))
    ends = scale.heights(np.array([scale.low, scale.high]))
    axes.set_zlim(*ends)
    for axis in (axes.xaxis, axes.yaxis):
        # Numbers at both ends would meet those of the other axis in the corner.
        axis.set_major_locator(MaxNLocator(4, prune="both"))
    places = scale.few_levels(5)
    axes.zaxis.set_major_locator(FixedLocator(list(scale.heights(np.array(places)))))
    axes.zaxis.set_major_formatter(FixedFormatter([f"{v:g}" for v in places]))
    for axis in (axes.xaxis, axes.yaxis, axes.zaxis):
        axis.set_pane_color((0, 0, 0, 0))
        axis.line.set_color(grid_of(theme))
        axis.label.set(color=ink_of(theme), fontsize=FONT - 2)
        axis.set_tick_params(labelsize=FONT - 2, colors=ink_of(theme), pad=0)


def _marks(panel: Panel, scale: Scale, theme: Theme) -> dict[str, Any]:
    """The base point, the lowest point and trajectories, which hide nothing behind."""
    grid, handles = panel.shown, {}
    axes: Any = panel.axes
    ink, edge = ink_of(theme), page_of(theme)
    style: dict[str, Any] = {"color": ink, "mec": edge, "mew": 0.8, "zorder": 20}

    def height(values: Array) -> Array:
        return scale.heights(np.clip(values, scale.low, scale.high))

    for name, (path, look) in named_paths(panel.surface, theme).items():
        x, y = path.coordinates.double().numpy().T
        z = height(heights_of(path, grid))
        shape = "o" if look is None else look.marker
        own = style if look is None else {**style, "color": look.colour}
        (handles[name],) = axes.plot(
            *(x, y, z), ls="-", marker=shape, lw=1.4, markersize=3.5, **own
        )
    base = grid.at(0.0, 0.0)
    if math.isfinite(base) and not panel.surface.off_base:
        z = height(np.array([base]))
        (handles[BASE],) = axes.plot([0], [0], z, "P", ls="", markersize=8, **style)
    place = lowest_loss(panel)
    if place is not None and math.isfinite(lowest := grid.at(*place)):
        point = (*([along] for along in place), height(np.array([lowest])))
        (handles[LOWEST],) = axes.plot(*point, "v", ls="", markersize=7, **style)
        lift(handles[LOWEST], place)
    return handles
