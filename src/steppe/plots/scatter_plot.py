"""One dot per network: a value against another, in the colours of its groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MANY = 300  # dots, from which on they are small and transparent
_FINE = 5000  # dots, from which on they are pixels within the figure


def scatter(
    groups: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    xlabel: str,
    ylabel: str,
    theme: Theme = "light",
) -> Figure:
    """Draw pairs of values by group.

    An axis is logarithmic where its values are positive and span more than a factor of
    30. Pairs that are not finite are left out.

    Args:
        groups: by name, values of the horizontal and of the vertical axis.
        xlabel: name of the horizontal axis.
        ylabel: name of the vertical axis.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    shown = {
        name: [p for p in zip(*both, strict=True) if all(map(math.isfinite, p))]
        for name, both in groups.items()
    }
    pairs = [pair for each in shown.values() for pair in each]
    many = len(pairs) > _MANY
    handles: dict[str, Any] = {}
    for name, look in looks(shown, theme).items():
        (handles[name],) = axes.plot(
            [x for x, _ in shown[name]],
            [y for _, y in shown[name]],
            look.marker,
            color=look.colour,
            markersize=2.5 if many else 4.5,
            alpha=0.4 if many else 0.75,
            markeredgewidth=0,
            rasterized=len(pairs) > _FINE,
        )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    for which, place in (("x", 0), ("y", 1)):
        values = [pair[place] for pair in pairs]
        if wants_log(values):
            log_axis(axes, "x" if which == "x" else "y", values)
    legend(figure, theme, handles)
    return without_collisions(figure)
