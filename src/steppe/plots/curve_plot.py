"""Training curves: a quantity by epoch, for several runs of several names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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


def curves(
    runs: Mapping[str, Sequence[Sequence[float]]],
    *,
    ylabel: str,
    theme: Theme = "light",
    xlabel: str = "epoch",
) -> Figure:
    """Draw the mean of each name's runs over a band from their lowest to highest.

    The axis of values is logarithmic where they span more than a factor of 30.

    Args:
        runs: by name, for each run its values after epochs 1, 2, ...; where runs
            differ in length, the mean ends with the shortest.
        ylabel: what the values are.
        theme: "light" for dark ink on a light page, "dark" for the contrary.
        xlabel: what is counted.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    every = [value for group in runs.values() for run in group for value in run]
    handles = {}
    for name, look in looks(runs, theme).items():
        columns = list(zip(*runs[name]))
        epochs = range(1, len(columns) + 1)
        mean = [sum(column) / len(column) for column in columns]
        if not columns:
            continue
        low, high = [min(c) for c in columns], [max(c) for c in columns]
        axes.fill_between(epochs, low, high, color=look.colour, alpha=0.18, lw=0)
        dot = look.marker if len(columns) == 1 else ""
        (handles[name],) = axes.plot(
            epochs, mean, color=look.colour, ls=look.dash, lw=1.8, marker=dot
        )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.locator_params(axis="x", integer=True)
    if wants_log(every):
        log_axis(axes, "y", every)
    legend(figure, theme, handles)
    return without_collisions(figure)
