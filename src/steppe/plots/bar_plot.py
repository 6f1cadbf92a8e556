"""One bar per part of a whole, such as the trace by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from steppe.plots.canvas import Theme, canvas, looks, without_collisions
from steppe.plots.names import cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROOM = 0.27  # inches of height for a bar
_LETTERS = 18  # of a name; the end of a longer one tells more


def bars(
    values: Mapping[str, float],
    *,
    xlabel: str,
    stderrs: Mapping[str, float] | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw a bar for each name, the first at the top.

    Args:
        values: by name; one that is not finite has no bar.
        xlabel: what the values are.
        stderrs: by name, the standard error of each value; 0 draws no bar of error.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme, height=0.9 + _ROOM * max(3, len(values)))
    (look,) = looks(("bar",), theme).values()
    for place, (name, value) in enumerate(values.items()):
        error = (stderrs or {}).get(name, 0.0)
        if math.isfinite(value):
            axes.barh(
                place,
                value,
                height=0.62,
                color=look.colour,
                xerr=error if 0 < error < math.inf else None,
                ecolor=axes.xaxis.label.get_color(),
                error_kw={"elinewidth": 1.2},
            )
    axes.set(xlabel=xlabel, ylim=(max(3, len(values)) - 0.4, -0.6))
    axes.set_yticks(range(len(values)), cut(values, _LETTERS, "start"))
    axes.grid(visible=False, axis="y")
    axes.locator_params(axis="x", nbins=5)
    return without_collisions(figure)
