"""The curve of a sweep: the headline metric over the values of a setting."""

from __future__ import annotations

import math
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
from steppe_lab.reports.comparison.sweep import SweepReport

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sweep_plot(report: SweepReport, *, theme: Theme = "light") -> Figure:
    """Draw the headline on validation and test samples by value, with intervals.

    Args:
        report: the sweep; values that span more than a factor of 30 are drawn on a
            logarithmic axis, intervals of one seed are not drawn.
        theme: "light" for dark ink on a light page, "dark" for the contrary.
    """
    figure, axes = canvas(theme)
    title, factor = report.metric.title, 100 if report.metric.share else 1
    curves = {
        f"validation {title}": [
            (each.value, each.validation) for each in report.values
        ],
        f"test {title}": [
            (each.value, each.test) for each in report.values if each.test
        ],
    }
    handles = {}
    for name, look in looks(curves, theme).items():
        at = [value for value, _ in curves[name]]
        means = [factor * mean.mean for _, mean in curves[name] if mean]
        halves = [factor * mean.half_width for _, mean in curves[name] if mean]
        (handles[name],) = axes.plot(
            at, means, color=look.colour, ls=look.dash, marker=look.marker, lw=1.8
        )
        bars = [half if math.isfinite(half) else 0.0 for half in halves]
        axes.errorbar(at, means, yerr=bars, fmt="none", color=look.colour, capsize=3)
    if report.best is not None:
        axes.axvline(report.best, color="gray", ls=":", lw=1.2)
    axes.set(
        xlabel=report.setting, ylabel=f"{title}, %" if report.metric.share else title
    )
    values = [each.value for each in report.values]
    if wants_log(values):
        log_axis(axes, "x", values)
    legend(figure, theme, handles)
    return without_collisions(figure)
