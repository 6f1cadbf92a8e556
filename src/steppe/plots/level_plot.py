"""A quantity along the levels of an ordered setting: runs, mean and interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from steppe.plots.canvas import (
    Theme,
    canvas,
    log_axis,
    looks,
    wants_log,
    without_collisions,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FINE = 300  # dots, from which on they are pixels within the figure


def levels(
    runs: Mapping[float, Sequence[float]],
    *,
    intervals: Mapping[float, tuple[float, float, float]],
    xlabel: str,
    ylabel: str,
    theme: Theme = "light",
) -> Figure:
    """Draw the mean at each level with its interval, and each run as a faint dot.

    An axis is logarithmic where its values are positive and span more than a factor of
    30. What is not finite is left out.

    Args:
        runs: by level, the values there.
        intervals: by level, mean, low and high; infinite ends are not drawn.
        xlabel: name of the setting.
        ylabel: name of the quantity.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    look = looks([ylabel], theme)[ylabel]
    places = sorted(runs)
    dots = [(x, y) for x in places for y in runs[x] if math.isfinite(y)]
    axes.plot(
        [x for x, _ in dots],
        [y for _, y in dots],
        look.marker,
        color=look.colour,
        alpha=0.35,
        markersize=3,
        markeredgewidth=0,
        rasterized=len(dots) > _FINE,
    )
    means = [(x, *intervals[x]) for x in places if math.isfinite(intervals[x][0])]
    axes.plot([m[0] for m in means], [m[1] for m in means], color=look.colour, lw=1.8)
    for x, _, low, high in means:
        if math.isfinite(low) and math.isfinite(high):
            axes.plot([x, x], [low, high], color=look.colour, lw=2.4)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if wants_log(places):
        log_axis(axes, "x", places)
    if wants_log([y for _, y in dots]):
        log_axis(axes, "y", [y for _, y in dots])
    return without_collisions(figure)
