"""Values with intervals along a setting that is a number, a line for each name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from steppe.plots.canvas import Theme, canvas, legend, looks, without_collisions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY = 40  # points of a line, from which on it has no markers

# Place, value, and the low and high end of its interval.
Point = tuple[float, float, float, float]


def trends(
    values: Mapping[str, Sequence[Point]],
    *,
    xlabel: str,
    ylabel: str,
    theme: Theme = "light",
) -> Figure:
    """Draw a line for each name, with a bar at each point from low to high.

    Args:
        values: by name, points in the order of their places; ends that are not finite
            are not drawn.
        xlabel: name of the setting.
        ylabel: name of the quantity.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    handles: dict[str, Any] = {}
    for name, look in looks(values, theme).items():
        points = values[name]
        (handles[name],) = axes.plot(
            [point[0] for point in points],
            [point[1] for point in points],
            color=look.colour,
            ls=look.dash,
            lw=1.8,
            marker=look.marker if len(points) < _MANY else "",
            markersize=4.5,
        )
        for place, _, low, high in points:
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([place, place], [low, high], color=look.colour, lw=1.2)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    legend(figure, theme, handles)
    return without_collisions(figure)
