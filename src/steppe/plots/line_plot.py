"""Loss along lines through the parameters of trained networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from steppe.plots.canvas import (
    Theme,
    canvas,
    legend,
    log_axis,
    looks,
    wants_log,
    without_collisions,
)
from steppe.plots.line_values import along
from steppe.surfaces import Surface

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def lines(
    surfaces: Mapping[str, Sequence[Surface]],
    *,
    theme: Theme = "light",
    xlabel: str = "distance along the line",
    ylabel: str = "loss",
    band: bool = False,
) -> Figure:
    """Draw every line thin and the mean of each name thick, on one shared scale.

    The loss axis is logarithmic where the losses span more than a factor of 30. Means
    are over the lines of a name that share its first line's points.

    Args:
        surfaces: by name of what is compared, one line for each run.
        theme: "light" for dark ink on a light page, "dark" for the contrary.
        xlabel: what the coordinate is.
        ylabel: what the loss is of.
        band: shade a standard error on both sides of every line.

    Raises:
        SettingError: a surface of other than one axis.
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    drawn = {n: [along(s, figure="lines") for s in r] for n, r in surfaces.items()}
    every = [v for runs in drawn.values() for run in runs for v in run.values.tolist()]
    handles = {}
    for name, look in looks(surfaces, theme).items():
        runs = drawn[name]
        for run in runs:
            axes.plot(run.x, run.values, color=look.colour, lw=0.7, alpha=0.45)
            if band:
                ends = (run.values - run.stderr, run.values + run.stderr)
                axes.fill_between(run.x, *ends, color=look.colour, alpha=0.18, lw=0)
        if not runs:
            continue
        x = runs[0].x
        alike = [run.values for run in runs if np.array_equal(run.x, x)]
        mean = np.mean(alike, axis=0)
        (handles[name],) = axes.plot(x, mean, color=look.colour, ls=look.dash, lw=2)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.locator_params(axis="x", nbins=5)
    if wants_log(every):
        log_axis(axes, "y", [value for value in every if math.isfinite(value)])
    legend(figure, theme, handles)
    return without_collisions(figure)
