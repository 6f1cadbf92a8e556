"""One dot per run, with the mean and interval of each name."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from steppe.plots.canvas import HEIGHT, Theme, canvas, log_axis, looks, wants_log

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPREAD = 0.36  # of the room of a name, over which its runs are spread
_MEAN = 0.30  # how far below its runs the mean lies
_WRAP = 16  # letters of a name on one line


def dots(
    values: Mapping[str, Sequence[float]],
    *,
    xlabel: str,
    intervals: Mapping[str, tuple[float, float, float]] | None = None,
    stderrs: Mapping[str, Sequence[float]] | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw each run as a dot, and under them the mean with its interval.

    The axis is logarithmic where the values are positive and span more than a factor
    of 30. An interval much wider than the spread of the runs leaves the picture.

    Args:
        values: by name, one for each run; a run that is not finite is left out.
        xlabel: what the values are.
        intervals: by name, mean, low and high; low and high may be infinite, and
            are then not drawn.
        stderrs: by name, the standard error of each value; 0 draws no bar.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme, height=max(HEIGHT * 0.75, 0.8 + 0.5 * len(values)))
    flat = [v for group in values.values() for v in group if math.isfinite(v)]
    for place, (name, look) in enumerate(looks(values, theme).items()):
        runs = values[name]
        errors = (stderrs or {}).get(name) or [0.0] * len(runs)
        for i, (value, error) in enumerate(zip(runs, errors, strict=True)):
            if math.isfinite(value):
                y = place - _MEAN / 2 + _offset(i, len(runs))
                axes.errorbar(
                    *(value, y),
                    xerr=error if error > 0 and math.isfinite(error) else None,
                    fmt=look.marker,
                    color=look.colour,
                    markersize=4.5,
                    alpha=0.75,
                    elinewidth=1,
                )
        if intervals and name in intervals:
            mean, low, high = intervals[name]
            y = place + _MEAN
            axes.plot([mean], [y], look.marker, color=look.colour, markersize=8)
            if math.isfinite(low) and math.isfinite(high):
                axes.plot([low, high], [y, y], color=look.colour, lw=2.4)
    axes.set(xlabel=xlabel, ylim=(len(values) - 0.4, -0.6))
    axes.set_yticks(range(len(values)), [_wrapped(name) for name in values])
    axes.grid(visible=False, axis="y")
    _limits(axes, flat, list((intervals or {}).values()))
    return figure


def _offset(place: int, count: int) -> float:
    return _SPREAD * (place / (count - 1) - 0.5) if count > 1 else 0.0


def _limits(
    axes: Axes, values: list[float], intervals: list[tuple[float, float, float]]
) -> None:
    """Limit the axis to all runs and the near parts of their intervals."""
    if not values:
        return
    low, high = min(values), max(values)
    ends = [end for _, a, b in intervals for end in (a, b) if math.isfinite(end)]
    if wants_log(values):
        room = (high / low) ** 0.25
        positive = [end for end in ends if end > 0]
        left = max(min([low, *positive]), low / room) / 1.15
        log_axis(axes, "x", values)
        axes.set_xlim(left, min(max([high, *ends]), high * room) * 1.15)
        return
    room = 0.6 * (high - low) or 0.1 * abs(high) or 1.0
    left, right = (
        max(min([low, *ends]), low - room),
        min(max([high, *ends]), high + room),
    )
    edge = 0.05 * (right - left) or room
    axes.set_xlim(left - edge, right + edge)


def _wrapped(name: str) -> str:
    """A long `name:setting=value,...` over several lines."""
    pieces = name.replace(":", ":\n").replace(",", ",\n").split("\n")
    if len(name) <= _WRAP:
        return name
    return "\n".join(p if len(p) <= _WRAP else p[: _WRAP - 1] + "…" for p in pieces)
