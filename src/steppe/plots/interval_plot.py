"""Values with their intervals, one line for each name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from steppe.plots.canvas import (
    HEIGHT,
    Theme,
    canvas,
    ink_of,
    legend,
    looks,
    without_collisions,
)
from steppe.plots.names import cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LINE = 0.24  # inches of a name
_BELOW = 0.75  # inches of the axis and its name
_APART = 0.26  # lines between the kinds of one name
_NAME = 24  # letters of a name; longer ones are cut


def intervals(
    values: Mapping[str, Mapping[str, tuple[float, float, float]]],
    *,
    xlabel: str,
    zero: float | None = 0.0,
    theme: Theme = "light",
) -> Figure:
    """Draw a dot and a bar for each name, from top to bottom.

    Args:
        values: by kind and name, a value with the low and high end of its interval;
            ends that are not finite are not drawn. A name of several kinds has one
            line, where they stand above each other.
        xlabel: name of the axis.
        zero: where a line marks "no effect"; None for nowhere.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    rows = list(dict.fromkeys(name for named in values.values() for name in named))
    most = max((sum(n in named for named in values.values()) for n in rows), default=1)
    line = _LINE * (1 + 0.35 * (most - 1))
    height = max(HEIGHT * 0.6, _BELOW + line * len(rows))
    figure, axes = canvas(theme, height=height)
    handles = {}
    if zero is not None:
        axes.axvline(zero, color=ink_of(theme), lw=0.8, alpha=0.6)
    for kind, look in looks(values, theme).items():
        for number, name in enumerate(rows):
            if name not in values[kind]:
                continue
            kinds = [each for each, named in values.items() if name in named]
            place = number + _APART * (kinds.index(kind) - (len(kinds) - 1) / 2)
            value, low, high = values[kind][name]
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [place, place], color=look.colour, lw=2)
            (handles[kind],) = axes.plot(
                [value], [place], look.marker, color=look.colour, markersize=6
            )
    axes.set(xlabel=xlabel, ylim=(len(rows) - 0.4, -0.6))
    axes.set_yticks(range(len(rows)), cut(rows, _NAME, "end"))
    axes.grid(visible=False, axis="y")
    legend(figure, theme, handles)
    return without_collisions(figure)
