"""Two networks and a curve between them: the loss along it, and the plane it is in.

Source: Garipov et al., 2018, arXiv:1802.10026, Figures 1 and 2, which are two pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steppe.plots.canvas import Theme, legend, looks, sheet, style, without_collisions
from steppe.plots.contour_plot import draw_filled
from steppe.plots.line_values import along
from steppe.plots.planes.colours import filling
from steppe.plots.planes.panels import (
    Panel,
    Request,
    colour_bar,
    dress,
    put_footer,
    without_cut_numbers,
)
from steppe.plots.planes.values import LOSS, axis_names
from steppe.plots.planes.words import footer
from steppe.plots.profile_plot import draw_along, log_where_wanted
from steppe.surfaces import Surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE = (8.8, 3.8)  # inches


def connection(
    paths: Mapping[str, Surface],
    plane: Surface,
    *,
    log: bool | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    vlevel: float | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw the loss along paths between two networks beside a plane with the paths.

    A path has one colour in both parts where the plane has a trajectory of its name, in
    the order of the paths.

    Args:
        paths: surfaces of one axis by name, such as those of a curve and of the line.
        plane: of two axes, such as that of `Curve.plane`, with trajectories.
        log: whether both scales are logarithmic; None for each as in `profile` and
            `contourf`.
        vmin: least level of the plane.
        vmax: largest level of the plane.
        vlevel: distance of the levels of the plane.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: a surface of another number of axes, or a scale that is none.
        UsageError: matplotlib is not installed.
    """
    losses = {name: along(s, figure="connection") for name, s in paths.items()}
    request = Request("connection", LOSS, log, vmin, vmax, vlevel, theme)
    ((_, (_, values)),) = request.shown(plane).items()
    scale = request.scale([values])
    figure = sheet(*_SIZE)
    left, right = figure.subplots(1, 2, subplot_kw={"facecolor": "none"})
    for axes in (left, right):
        style(axes, theme)
    handles: dict[str, Any] = {}
    styles = looks(losses, theme)
    for name, curve in losses.items():
        handles[name] = draw_along(left, curve, styles[name])
    log_where_wanted(left, losses.values(), log)
    names = dict.fromkeys(axis_names(each)[0] for each in paths.values())
    words = dict.fromkeys(curve.words for curve in losses.values())
    left.set(xlabel=" or ".join(names), ylabel=" or ".join(words))
    left.locator_params(axis="x", nbins=5)
    panel = Panel("", plane, values, right)
    marks = draw_filled(panel, scale, theme=theme)
    dress(panel)
    colour_bar(figure, [panel], scale, theme, filling(theme))
    legend(figure, theme, marks | handles, least=1)
    put_footer(figure, footer({**paths, "plane": plane}, LOSS), theme)
    without_collisions(figure)
    without_cut_numbers(right)
    return figure
