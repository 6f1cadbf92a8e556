"""The loss on a line, and a second quantity on an axis of its own."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from steppe.plots.canvas import (
    Look,
    Theme,
    canvas,
    ink_of,
    legend,
    log_axis,
    looks,
    wants_log,
    without_collisions,
)
from steppe.plots.line_values import Along, along
from steppe.plots.planes.panels import put_footer
from steppe.plots.planes.values import LOSS, Surfaces, axis_names, by_name
from steppe.plots.planes.words import footer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_FEW = 15  # points of a line that are shown one by one


def profile(
    surfaces: Surfaces,
    *,
    quantity: str = LOSS,
    log: bool | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw the loss on a line with its standard error, and a second quantity.

    The loss has the left axis and whole lines, the second quantity the right one and
    dashed lines. Bands are a standard error wide on both sides. Where a value is not
    finite the line has a gap. The footer has the recipe.

    Args:
        surfaces: of one axis; one, or several by name.
        quantity: beside the loss, as in `contour`, such as "accuracy"; "loss" for the
            loss alone.
        log: whether the axis of the loss is logarithmic; None where the losses are
            positive and span more than a factor of 30.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: a surface of other than one axis, or no such quantity.
        UsageError: matplotlib is not installed.
    """
    named = by_name(surfaces)
    losses = {n: along(s, figure="profile") for n, s in named.items()}
    figure, axes = canvas(theme)
    handles: dict[str, Any] = {}
    styles = looks(named, theme)
    for name, curve in losses.items():
        handles[_both(name, curve.words)] = draw_along(axes, curve, styles[name], "-")
    log_where_wanted(axes, losses.values(), log)
    if quantity != LOSS:
        right = axes.twinx()
        right.tick_params(labelsize=11, colors=ink_of(theme), length=0)
        for spine in right.spines.values():
            spine.set_visible(False)
        for name, surface in named.items():
            curve = along(surface, quantity, figure="profile")
            handle = draw_along(right, curve, styles[name], "--")
            handles[_both(name, curve.words)] = handle
        right.set_ylabel(curve.words, color=ink_of(theme), fontsize=11)
    names = dict.fromkeys(axis_names(each)[0] for each in named.values())
    axes.set(xlabel=" or ".join(names), ylabel=next(iter(losses.values())).words)
    axes.locator_params(axis="x", nbins=5)
    legend(figure, theme, handles)
    put_footer(figure, footer(named, LOSS), theme)
    return without_collisions(figure)


def log_where_wanted(axes: Axes, curves: Iterable[Along], log: bool | None) -> None:
    """Make the axis of values logarithmic.

    Args:
        axes: to change.
        curves: that are drawn.
        log: whether; None where values are positive and span more than a factor of 30.
    """
    every = [v for c in curves for v in c.values.tolist() if math.isfinite(v)]
    positive = [v for v in every if v > 0]
    if positive and (wants_log(every) if log is None else log):
        log_axis(axes, "y", positive)


def draw_along(axes: Axes, curve: Along, look: Look, dash: str = "-") -> Any:
    """Draw a quantity on a line over the band of its standard error.

    Args:
        axes: to draw on.
        curve: the quantity.
        look: of the line.
        dash: style of the line.

    Returns:
        The handle of a legend.
    """
    if curve.stderr.any():
        ends = (curve.values - curve.stderr, curve.values + curve.stderr)
        axes.fill_between(curve.x, *ends, color=look.colour, alpha=0.18, lw=0)
    # Between few points a line is no more than a guess.
    dot = look.marker if len(curve.x) <= _FEW else ""
    (handle,) = axes.plot(
        *(curve.x, curve.values),
        color=look.colour,
        ls=dash,
        lw=1.8,
        marker=dot,
        markersize=4.5,
    )
    return handle


def _both(name: str, words: str) -> str:
    return f"{name}, {words}" if name else words
