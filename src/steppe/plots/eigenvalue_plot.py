"""The largest eigenvalues along training, and a score beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from steppe.plots.canvas import (
    FONT,
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


def eigenvalues(
    places: Sequence[float],
    rows: Sequence[Sequence[float]],
    *,
    theme: Theme = "light",
    xlabel: str = "epoch",
    ylabel: str = "eigenvalue",
    beside: tuple[str, Sequence[float]] | None = None,
) -> Figure:
    """Draw K lines, the largest thick and the others paler by rank.

    The axis of values is logarithmic where they span more than a factor of 30. What
    stands beside them is dashed and has the right axis.

    Args:
        places: epochs or steps of the R measurements.
        rows: of each measurement its K eigenvalues, descending.
        theme: "light" for dark ink on a light page, "dark" for the contrary.
        xlabel: what the places are.
        ylabel: what the values are.
        beside: name and R values of a second quantity, such as an accuracy, with a gap
            where they are not finite; None for none.

    Raises:
        UsageError: matplotlib is not installed.
    """
    figure, axes = canvas(theme)
    first, others = looks(("first", "others"), theme).values()
    handles = {}
    columns = list(zip(*rows, strict=True))
    for rank, column in enumerate(columns):
        look, leads = (others, False) if rank else (first, True)
        (line,) = axes.plot(
            places,
            column,
            color=look.colour,
            marker=look.marker,
            markersize=4 if leads else 2.5,
            lw=2 if leads else 1.2,
            alpha=1 if leads else max(0.35, 1 - 0.15 * (rank - 1)),
            zorder=3 if leads else 2,
        )
        if rank < 2:
            handles["largest" if leads else _ranks(len(columns))] = line
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.locator_params(axis="x", integer=True, nbins=6)
    every = [value for row in rows for value in row]
    if wants_log(every):
        log_axis(axes, "y", every)
    if beside is not None:
        name, values = beside
        look = looks(("first", "others", "beside"), theme)["beside"]
        right = axes.twinx()
        right.tick_params(labelsize=FONT, colors=ink_of(theme), length=0)
        for spine in right.spines.values():
            spine.set_visible(False)
        finite = [v if math.isfinite(v) else math.nan for v in values]
        (handles[name],) = right.plot(
            places, finite, color=look.colour, ls="--", lw=1.6
        )
        right.set_ylabel(name, color=ink_of(theme), fontsize=FONT)
    legend(figure, theme, handles)
    return without_collisions(figure)


def _ranks(count: int) -> str:
    return "2nd" if count == 2 else f"2nd to {count}{'rd' if count == 3 else 'th'}"
