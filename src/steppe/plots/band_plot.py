"""The loss along several lines of each kind: their median and a band of quantiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from steppe.errors import SettingError, brief
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
from steppe.plots.planes.panels import put_footer
from steppe.plots.planes.values import LOSS, axis_names
from steppe.plots.planes.words import footer
from steppe.surfaces import Band

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def bands(
    several: Band | Mapping[str, Band],
    *,
    quantity: str = LOSS,
    theme: Theme = "light",
) -> Figure:
    """Draw the median of several lines and a band between two of their quantiles.

    One random line says little of a network: another has another shape. Where the
    median or an end of the band is not finite there is a gap.

    Args:
        several: lines of several seeds, such as those of `steppe.band`; or such bands
            by name of what is compared, on one scale.
        quantity: "loss", or the name of a quantity beside it.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: no band, surfaces of other than one axis, or no such quantity.
        UsageError: matplotlib is not installed.
    """
    named = {"": several} if isinstance(several, Band) else several
    if not isinstance(named, Mapping) or not all(
        isinstance(each, Band) for each in named.values()
    ):
        raise SettingError(
            "bands() draws a Band or Bands by name, such as {'SGD': a, 'SAM': b}, got "
            f"{brief(several)}."
        )
    figure, axes = canvas(theme)
    handles: dict[str, Any] = {}
    every: list[float] = []
    xlabels: dict[str, None] = {}
    ylabels: dict[str, None] = {}
    for name, look in looks(named, theme).items():
        band = named[name]
        first = along(band.surfaces[0], quantity, figure="bands")
        order = np.argsort(band.x, kind="stable")
        low, median, high = (
            _finite(band.quantile(level, quantity))[order]
            for level in (band.levels[0], 0.5, band.levels[1])
        )
        axes.fill_between(first.x, low, high, color=look.colour, alpha=0.2, lw=0)
        lower, upper = (f"{100 * level:g}" for level in band.levels)
        label = f"median of {len(band.surfaces)}, {lower} to {upper} %"
        label = f"{name}: {label}" if name else label
        (handles[label],) = axes.plot(
            first.x, median, color=look.colour, ls=look.dash, lw=2
        )
        every += [value for value in (*low, *median, *high) if np.isfinite(value)]
        xlabels[axis_names(band.surfaces[0])[0]] = ylabels[first.words] = None
    axes.set(xlabel=" or ".join(xlabels), ylabel=" or ".join(ylabels))
    axes.locator_params(axis="x", nbins=5)
    if quantity == LOSS and wants_log(every):
        log_axis(axes, "y", every)
    legend(figure, theme, handles, least=1)
    firsts = {name: band.surfaces[0] for name, band in named.items()}
    # Of one line each: errors and places without a value differ from line to line.
    facts = footer(firsts, quantity, without=("error", "lost", "cosine"))
    put_footer(figure, facts, theme)
    return without_collisions(figure)


def _finite(values: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    numbers = values.numpy()
    return np.where(np.isfinite(numbers), numbers, np.nan)
