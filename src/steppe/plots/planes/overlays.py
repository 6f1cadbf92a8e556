"""Marks on a plane: its lowest and base point, points without a value, trajectories.

Shape letters: X points along the first axis, Y along the second.
"""

from __future__ import annotations

import math
from string import ascii_uppercase
from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.plots.canvas import FONT, Look, Theme, grid_of, ink_of, looks, page_of
from steppe.plots.planes.panels import Panel, normalised
from steppe.plots.planes.scale import Scale
from steppe.plots.planes.values import Array, Shown, edges, shown
from steppe.plots.planes.words import path_names
from steppe.surfaces import Arrow, Surface, Trajectory

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.lines import Line2D

LOWEST, BASE, POINTS = "lowest loss", "base point", "evaluated points"
BRIGHT, BLACK = "#fefefe", "#000001"  # on filled maps, the same in both themes
_FAINT = 0.25  # opacity of a checkpoint that lies far off the plane
_SHORT, _LONG = 0.06, 0.6  # of the picture's width, lengths of an arrow in sight
_NEAR = 1e-3  # share of the picture, within which two places are one
_LIFT = 8.0  # points, from one mark to another of the same place


def mark(
    panel: Panel,
    scale: Scale,
    theme: Theme,
    colours: Colormap,
    *,
    filled: bool,
    points: bool,
    cells: bool,
) -> dict[str, Any]:
    """Draw all marks of a panel.

    Args:
        panel: to draw on.
        scale: of its colours.
        theme: of the figure.
        colours: of the values.
        filled: the colours fill the panel; marks are black and white there.
        points: show where the surface was evaluated.
        cells: values fill the cells around points, not those between them.

    Returns:
        Handles of a legend, by name.
    """
    _hatch(panel, theme, cells=cells)
    ink, edge = (BRIGHT, BLACK) if filled else (ink_of(theme), page_of(theme))
    handles = {}
    if points:
        handles[POINTS] = _dots(panel, ink, edge)
    for name, (path, look) in named_paths(panel.surface, theme).items():
        colour = ink if look is None else look.colour
        shape = "o" if look is None else look.marker
        handles[name] = _path(panel, path, scale, colours, (colour, shape), edge)
    for arrow in panel.surface.arrows:
        handles |= _arrow(panel, arrow, theme, edge)
    handles |= _base_and_lowest(panel, ink, edge)
    return handles | _networks(panel, ink, edge)


def named_paths(
    surface: Surface, theme: Theme
) -> dict[str, tuple[Trajectory, Look | None]]:
    """Trajectories by name, with a look of its own for each of several.

    Those without a name, or with that of another one, are numbered.
    """
    names = path_names(surface)
    own = looks(names, theme) if len(names) > 1 else {}
    return {
        name: (path, own.get(name))
        for name, path in zip(names, surface.paths, strict=True)
    }


def _hatch(panel: Panel, theme: Theme, *, cells: bool) -> None:
    """Hatch the places without a finite value."""
    from matplotlib.collections import PolyCollection

    lost = ~panel.shown.finite
    if not lost.any():
        return
    x, y = panel.shown.x, panel.shown.y
    if cells:
        x, y = edges(x), edges(y)
    else:
        lost = lost[1:, 1:] | lost[1:, :-1] | lost[:-1, 1:] | lost[:-1, :-1]
    corners = [
        ((x[i], y[j]), (x[i + 1], y[j]), (x[i + 1], y[j + 1]), (x[i], y[j + 1]))
        for j, i in np.argwhere(lost)
    ]
    panel.axes.add_collection(
        PolyCollection(
            corners, hatch="////", facecolor="none", edgecolor=grid_of(theme), lw=0
        ),
        autolim=False,
    )


def _dots(panel: Panel, ink: str, edge: str) -> Any:
    rows, columns = np.nonzero(panel.shown.computed)
    x, y = panel.shown.x[columns], panel.shown.y[rows]
    (handle,) = panel.axes.plot(x, y, "o", c=ink, mec=edge, ms=2.2, mew=0.4)
    return handle


def _base_and_lowest(panel: Panel, ink: str, edge: str) -> dict[str, Any]:
    grid, handles = panel.shown, {}
    axes = panel.axes
    style: dict[str, Any] = {
        "color": ink,
        "mec": edge,
        "mew": 0.9,
        "ls": "",
        "zorder": 7,
    }
    within = grid.x[0] <= 0 <= grid.x[-1] and grid.y[0] <= 0 <= grid.y[-1]
    if within and not panel.surface.off_base:
        (handles[BASE],) = axes.plot(0, 0, "P", markersize=8.5, **style)
    place = lowest_loss(panel)
    if place is not None:
        (handles[LOWEST],) = axes.plot(
            *place, "v", markersize=7, clip_on=False, **style
        )
        lift(handles[LOWEST], place)
    return handles


def _networks(panel: Panel, ink: str, edge: str) -> dict[str, Any]:
    """Networks that the plane goes through: A at the base point, B, C."""
    handles = {}
    places = _places_of_networks(panel.surface)
    for letter, (x, y) in zip(ascii_uppercase, places):
        if (x, y) != (0.0, 0.0):  # which the base point's mark is at
            (handles["networks"],) = panel.axes.plot(
                x, y, "s", color=ink, mec=edge, mew=0.9, ls="", markersize=6, zorder=7
            )
        _label(panel, letter, (x, y), ink, edge)
    return handles


def _places_of_networks(surface: Surface) -> list[tuple[float, float]]:
    known = surface.details.get("networks", ())
    return [(float(at[0]), float(at[1])) for at in known if len(at) == 2]


def lift(mark: Line2D, place: tuple[float, float]) -> None:
    """Put the mark of the lowest loss above that of the base point if both meet."""
    from matplotlib.transforms import ScaledTranslation

    axes = mark.axes
    figure = axes.get_figure(root=True) if axes is not None else None
    if axes is not None and figure is not None and place == (0.0, 0.0):
        above = ScaledTranslation(0, _LIFT / 72, figure.dpi_scale_trans)
        mark.set_transform(axes.transData + above)


def lowest_loss(panel: Panel) -> tuple[float, float] | None:
    """Point of the lowest loss, whichever quantity is drawn; None where it is flat."""
    loss = shown(panel.surface, figure="")
    place = loss.lowest()
    if place is None or float(np.ptp(loss.values[loss.finite])) == 0.0:
        return None
    return float(loss.x[place[1]]), float(loss.y[place[0]])


def heights_of(path: Trajectory, grid: Shown) -> Array:
    """Values of a surface below the checkpoints of a trajectory, shape (T,)."""
    return np.array([grid.at(x, y) for x, y in path.coordinates.tolist()])


def opacity(path: Trajectory) -> Array:
    """Of each checkpoint: 1 on the plane, 0.25 where it is as far off as away."""
    away = np.nan_to_num(path.relative_residual.numpy().astype(float), nan=0.0)
    shares: Array = 1 - (1 - _FAINT) * np.clip(away, 0.0, 1.0)
    return shares


def _path(
    panel: Panel,
    path: Trajectory,
    scale: Scale,
    colours: Colormap,
    look: tuple[str, str],
    edge: str,
) -> Any:
    from matplotlib.patheffects import withStroke

    ink, shape = look
    x, y = path.coordinates.double().numpy().T
    around = [withStroke(linewidth=2.6, foreground=edge)]
    (line,) = panel.axes.plot(
        x, y, "-", color=ink, lw=1.3, zorder=4, path_effects=around
    )
    here = opacity(path)
    if path.loss is None or not panel.shown.in_loss:
        shades: Any = ink
    else:
        shades = colours(normalised(scale)(path.loss.double().numpy()))
        shades[:, 3] = here
    panel.axes.scatter(
        *(x, y),
        s=30 * here,
        c=shades,
        marker=shape,
        edgecolors=ink,
        linewidths=0.7,
        zorder=5,
    )
    taken = _places_of_networks(panel.surface)
    # A path from network to network meets them up to rounding.
    near = _NEAR * np.array([np.ptp(panel.shown.x), np.ptp(panel.shown.y)])
    for place in (0, -1) if path.labels else ():
        end = (x[place], y[place])
        if not any(np.allclose(end, at, rtol=0, atol=near) for at in taken):
            _label(panel, path.labels[place], (x[place], y[place]), ink, edge)
    return line


def _label(
    panel: Panel, text: str, point: tuple[float, float], ink: str, edge: str
) -> None:
    """A name beside a point, on the side of the picture's middle."""
    from matplotlib.patheffects import withStroke

    grid = panel.shown
    if not (
        grid.x[0] <= point[0] <= grid.x[-1] and grid.y[0] <= point[1] <= grid.y[-1]
    ):
        return
    left = point[0] > (grid.x[0] + grid.x[-1]) / 2
    panel.axes.annotate(
        text,
        point,
        xytext=(-6 if left else 6, 5),
        textcoords="offset points",
        ha="right" if left else "left",
        color=ink,
        fontsize=FONT - 2.5,
        zorder=8,
        path_effects=[withStroke(linewidth=2, foreground=edge)],
    )


def _arrow(panel: Panel, arrow: Arrow, theme: Theme, edge: str) -> dict[str, Any]:
    """An arrow, longer or shorter by a power of ten where it would not be seen."""
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.patheffects import withStroke

    grid = panel.shown
    sides = np.array((grid.x[-1] - grid.x[0], grid.y[-1] - grid.y[0]))
    length = float(np.linalg.norm(np.array(arrow.vector) / sides))
    if not math.isfinite(length) or length == 0:
        return {}
    power = 0
    if not _SHORT <= length <= _LONG:
        power = math.floor(math.log10(_LONG / length))
    (x, y), (dx, dy) = arrow.start, (v * 10.0**power for v in arrow.vector)
    colour = looks(("others", "arrow"), theme)["arrow"].colour
    patch = FancyArrowPatch(
        (x, y),
        (x + dx, y + dy),
        arrowstyle="-|>",
        mutation_scale=13,
        shrinkA=0,
        shrinkB=0,
        lw=2,
        color=colour,
        zorder=6,
        path_effects=[withStroke(linewidth=3.5, foreground=edge)],
    )
    panel.axes.add_patch(patch)
    times = f", × 1e{power}" if power else ""
    return {f"{arrow.name or 'arrow'}{times}": _line(colour)}


def _line(colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, lw=2, marker=">", markevery=[1])
