"""Bars of several kinds side by side, such as optimizers alone and with SAM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from steppe.plots.canvas import (
    Theme,
    canvas,
    legend,
    log_axis,
    looks,
    wants_log,
    without_collisions,
)
from steppe.plots.names import BESIDE, cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BAR = 0.14  # inches of height for a bar
_BETWEEN = 0.08  # inches between two names
_AXIS = 0.9  # inches of the axis, its name and the legend


def grouped_bars(
    values: Mapping[str, Mapping[str, float]],
    *,
    xlabel: str,
    theme: Theme = "light",
) -> Figure:
    """Draw for each name a bar of each kind, the first name at the top.

    The axis is logarithmic where all values are positive and span more than a factor of
    30; the length of a bar then says nothing, only where it ends.

    Args:
        values: by kind and name; a value that is not finite, or that a kind lacks, has
            no bar.
        xlabel: what the values are.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    names = list(dict.fromkeys(name for kind in values.values() for name in kind))
    thick = _BAR * max(1, len(values)) + _BETWEEN  # inches of a name
    figure, axes = canvas(theme, height=_AXIS + thick * max(3, len(names)))
    height = _BAR / thick
    handles: dict[str, Any] = {}
    for place, (kind, look) in enumerate(looks(values, theme).items()):
        shift = height * (place - (len(values) - 1) / 2)
        finite = {n: v for n, v in values[kind].items() if math.isfinite(v)}
        handles[kind] = axes.barh(
            [names.index(name) + shift for name in finite],
            list(finite.values()),
            height=0.9 * height,
            color=look.colour,
        )
    every = [value for kind in values.values() for value in kind.values()]
    if wants_log(every):
        log_axis(axes, "x", [value for value in every if math.isfinite(value)])
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.set(xlabel=xlabel, ylim=(max(3, len(names)) - 0.4, -0.6))
    axes.set_yticks(range(len(names)), cut(names, BESIDE))
    axes.grid(visible=False, axis="y")
    legend(figure, theme, handles)
    return without_collisions(figure)
