"""One dot per run, with the mean and interval of each name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from steppe.plots.canvas import (
    HEIGHT,
    Look,
    Theme,
    canvas,
    log_axis,
    looks,
    wants_log,
    without_collisions,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPREAD = 0.36  # of the room of a name, over which its runs are spread
_MEAN = 0.30  # how far below its runs the mean lies
_LINE = 0.17  # inches of a line of a name
_WRAP = 16  # letters of a name on one line
_AXIS = 36  # letters of the axis' name on one line


def dots(
    values: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    intervals: Mapping[str, tuple[float, float, float]] | None = None,
    stderrs: Mapping[str, Sequence[float]] | None = None,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    theme: Theme = "light",
) -> Figure:
    """Draw each run as a dot, and under them the mean with its interval.

    The axis is logarithmic where the values are positive and span more than a factor
    of 30. An interval much wider than the spread of the runs leaves the picture, which
    an arrow at the edge says.

    Args:
        values: by name, one for each run; a run that is not finite is left out.
        xlabel: what the values are.
        intervals: by name, mean, low and high; low and high may be infinite, and
            are then not drawn.
        stderrs: by name, the standard error of each value; 0 draws no bar.
        bounds: values that are possible, such as 0 to 100 %; intervals end there.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    names = {name: _wrapped(name) for name in values}
    tallest = max((text.count("\n") for text in names.values()), default=0)
    # A name of several lines needs as much room as its runs and their mean.
    room = max(0.5, _LINE * (tallest + 1.5))
    # Below them, the axis and its name.
    below = 0.6 + _LINE * (1 + len(xlabel) // _AXIS)
    figure, axes = canvas(theme, height=max(HEIGHT * 0.75, below + room * len(values)))
    flat = [v for group in values.values() for v in group if math.isfinite(v)]
    for place, (name, look) in enumerate(looks(values, theme).items()):
        runs = values[name]
        errors = (stderrs or {}).get(name) or [0.0] * len(runs)
        heights = [place - _MEAN / 2 + _offset(i, len(runs)) for i in range(len(runs))]
        bars = [error if 0 < error < math.inf else math.nan for error in errors]
        # A dot on the edge is drawn whole; bars end there.
        axes.plot(
            *_finite(runs, heights),
            look.marker,
            color=look.colour,
            alpha=0.75,
            markersize=4.5,
            clip_on=False,
        )
        if not all(map(math.isnan, bars)):
            axes.errorbar(
                runs,
                heights,
                xerr=bars,
                fmt="none",
                color=look.colour,
                alpha=0.75,
                elinewidth=1,
            )
        if intervals and name in intervals:
            mean, low, high = _within(intervals[name], bounds)
            y = place + _MEAN
            axes.plot(
                [mean], [y], look.marker, color=look.colour, markersize=8, clip_on=False
            )
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [y, y], color=look.colour, lw=2.4)
    axes.set(xlabel=xlabel, ylim=(len(values) - 0.4, -0.6))
    axes.set_yticks(range(len(values)), list(names.values()))
    axes.grid(visible=False, axis="y")
    shown = [_within(each, bounds) for each in (intervals or {}).values()]
    _limits(axes, flat, shown, bounds)
    _mark_cut(axes, intervals or {}, looks(values, theme), list(values), bounds)
    return without_collisions(figure)


def _mark_cut(
    axes: Axes,
    intervals: Mapping[str, tuple[float, float, float]],
    styles: Mapping[str, Look],
    names: list[str],
    bounds: tuple[float, float],
) -> None:
    """An arrow where an interval goes on beyond the picture."""
    left, right = axes.get_xlim()
    for place, name in enumerate(names):
        if name not in intervals:
            continue
        _, low, high = _within(intervals[name], bounds)
        for end, edge, arrow in ((low, left, "<"), (-high, right, ">")):
            if math.isfinite(end) and end < (edge if arrow == "<" else -edge):
                y, colour = place + _MEAN, styles[name].colour
                axes.plot([edge], [y], arrow, c=colour, markersize=7, clip_on=False)


def _within(
    interval: tuple[float, float, float], bounds: tuple[float, float]
) -> tuple[float, float, float]:
    """Mean, low and high, of which finite ends stay within bounds."""
    mean, *ends = interval
    low, high = (
        min(max(end, bounds[0]), bounds[1]) if math.isfinite(end) else end
        for end in ends
    )
    return mean, low, high


def _finite(
    values: Sequence[float], heights: Sequence[float]
) -> tuple[list[float], list[float]]:
    pairs = [(x, y) for x, y in zip(values, heights, strict=True) if math.isfinite(x)]
    return [x for x, _ in pairs], [y for _, y in pairs]


def _offset(place: int, count: int) -> float:
    return _SPREAD * (place / (count - 1) - 0.5) if count > 1 else 0.0


def _limits(
    axes: Axes,
    values: list[float],
    intervals: list[tuple[float, float, float]],
    bounds: tuple[float, float],
) -> None:
    """Limit the axis to all runs, the near parts of their intervals, and bounds."""
    if not values:
        return
    low, high = min(values), max(values)
    ends = [end for _, a, b in intervals for end in (a, b) if math.isfinite(end)]
    if wants_log(values):
        room = (high / low) ** 0.25
        positive = [end for end in ends if end > 0]
        left = max(min([low, *positive]), low / room) / 1.15
        log_axis(axes, "x", values)
        right = min(max([high, *ends]), high * room) * 1.15
        axes.set_xlim(left, min(right, bounds[1]))
        return
    room = 0.6 * (high - low) or 0.1 * abs(high) or 1.0
    left, right = (
        max(min([low, *ends]), low - room),
        min(max([high, *ends]), high + room),
    )
    edge = 0.05 * (right - left) or room
    axes.set_xlim(max(left - edge, bounds[0]), min(right + edge, bounds[1]))


def _wrapped(name: str) -> str:
    """A long `name:setting=value,...` over several lines."""
    pieces = name.replace(":", ":\n").replace(",", ",\n").split("\n")
    if len(name) <= _WRAP:
        return name
    return "\n".join(p if len(p) <= _WRAP else p[: _WRAP - 1] + "…" for p in pieces)
