"""Boxes of groups of values: quartiles, whiskers, and each value as a dot.

Source: Tukey, 1977, Exploratory Data Analysis; whiskers end at the last value within
1.5 interquartile ranges of the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from steppe.plots.canvas import (
    Theme,
    canvas,
    ink_of,
    log_axis,
    looks,
    wants_log,
    without_collisions,
)
from steppe.plots.names import BESIDE, cut

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROOM = 0.34  # inches of height for a box
_AXIS = 0.8  # inches of the axis and its name
_BOX = 0.6  # of the room of a name
_SPREAD = 0.36  # of the room of a name, over which its dots are spread
_REACH = 1.5  # of whiskers, in interquartile ranges


def boxes(
    values: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    theme: Theme = "light",
) -> Figure:
    """Draw a box from the lower to the upper quartile of each group, and its median.

    All values are drawn, so that nobody takes four of them for forty. The axis is
    logarithmic where they are positive and span more than a factor of 30.

    Args:
        values: by name; those that are not finite are left out.
        xlabel: what the values are.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme, height=_AXIS + _ROOM * max(3, len(values)))
    shown = {n: sorted(filter(math.isfinite, each)) for n, each in values.items()}
    for place, (name, look) in enumerate(looks(shown, theme).items()):
        own = shown[name]
        if not own:
            continue
        low, middle, high = np.quantile(own, [0.25, 0.5, 0.75]).tolist()
        reach = _REACH * (high - low)
        near = [value for value in own if low - reach <= value <= high + reach]
        axes.barh(
            place,
            high - low,
            left=low,
            height=_BOX,
            color=look.colour,
            alpha=0.3,
            edgecolor="none",
        )
        for end, start in ((near[0], low), (near[-1], high)):
            axes.plot([start, end], [place, place], color=look.colour, lw=1.2)
        axes.plot(
            [middle, middle],
            [place - _BOX / 2, place + _BOX / 2],
            color=ink_of(theme),
            lw=2,
        )
        # Neighbours in size are set apart, so that dots of like values stay apart.
        heights = [place + _SPREAD * (i % 3 - 1) / 2 for i in range(len(own))]
        axes.plot(
            own,
            heights,
            look.marker,
            color=look.colour,
            markersize=3.5,
            alpha=0.75,
            markeredgewidth=0,
        )
    every = [value for own in shown.values() for value in own]
    if wants_log(every):
        log_axis(axes, "x", every)
    else:
        axes.locator_params(axis="x", nbins=5)
    axes.set(xlabel=xlabel, ylim=(max(3, len(shown)) - 0.4, -0.6))
    axes.set_yticks(range(len(shown)), cut(shown, BESIDE))
    axes.grid(visible=False, axis="y")
    return without_collisions(figure)
