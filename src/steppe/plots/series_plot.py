"""Several quantities of one kind at the same places, such as cosines by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from steppe.errors import SettingError, brief
from steppe.plots.canvas import (
    Theme,
    canvas,
    ink_of,
    legend,
    log_axis,
    looks,
    wants_log,
    without_collisions,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FEW = 15  # places that are shown one by one


def series(
    values: Mapping[str, Sequence[float]],
    places: Sequence[float],
    *,
    xlabel: str,
    ylabel: str,
    zero: float | None = None,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    log: bool | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw a line for each name, with a gap where a value is not finite.

    Args:
        values: by name, as many as there are places.
        places: of the values, in any unit.
        xlabel: what the places are.
        ylabel: what the values are.
        zero: where a line marks "no effect"; None for nowhere.
        intervals: by name, low and high ends at all places, drawn as bars; one with an
            end that is not finite is not drawn. None for no bars.
        log: whether the axis of values is logarithmic; None for where they are positive
            and span more than a factor of 30.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: not a value for each place.
        UsageError: matplotlib is not installed.
    """
    for name, own in values.items():
        if len(own) != len(places):
            raise SettingError(
                f"series needs a value at each of {len(places)} places, got {len(own)} "
                f"of {brief(name)}."
            )
    figure, axes = canvas(theme)
    if zero is not None:
        axes.axhline(zero, color=ink_of(theme), lw=0.8, alpha=0.6)
    handles: dict[str, Any] = {}
    for name, look in looks(values, theme).items():
        finite = [v if math.isfinite(v) else math.nan for v in values[name]]
        (handles[name],) = axes.plot(
            places,
            finite,
            color=look.colour,
            ls=look.dash,
            lw=1.8,
            # Between few places a line is no more than a guess.
            marker=look.marker if len(places) <= _FEW else "",
            markersize=4,
        )
        for place, ends in zip(places, (intervals or {}).get(name, ())):
            if all(map(math.isfinite, ends)):
                axes.plot([place, place], ends, color=look.colour, lw=1.2)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.locator_params(axis="x", nbins=6)
    every = [v for each in values.values() for v in each if math.isfinite(v)]
    positive = [v for v in every if v > 0]
    if positive and (wants_log(every) if log is None else log):
        log_axis(axes, "y", positive)
    legend(figure, theme, handles)
    return without_collisions(figure)
