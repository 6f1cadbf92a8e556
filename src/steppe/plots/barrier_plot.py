"""Barriers between every two of several networks, and their dendrogram."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.errors import check_range
from steppe.plots.canvas import (
    FONT,
    WIDTH,
    Theme,
    grid_of,
    ink_of,
    looks,
    sheet,
    style,
    without_collisions,
)
from steppe.plots.names import cut
from steppe.plots.planes.colours import filling
from steppe.results.barriers import Barriers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NUMBERED = 8  # networks up to which every cell has its number
_CELL = 0.42  # inches of a cell
_LETTERS, _LETTER = 16, 0.095  # of the name of a network, and inches of one


def barriers(
    result: Barriers,
    path: str | None = None,
    *,
    threshold: float | None = None,
    theme: Theme = "light",
) -> Figure:
    """Draw the barrier of each pair as a coloured cell, and the order of merges.

    Networks stand in the order of the dendrogram (single linkage) to the right, whose
    axis is the barrier at which groups merge; those that no finite barrier connects
    merge beyond a dashed end. Cells of pairs that were refused are hatched.

    Args:
        result: barriers along one or more paths.
        path: such as "straight"; None for the first one.
        threshold: the highest barrier within a basin, drawn as a line.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        SettingError: an unknown path, or a threshold below 0.
        UsageError: matplotlib is not installed.
    """
    if threshold is not None:
        check_range("threshold", threshold, 0.0)
    values = result.matrix(path).numpy().copy()
    merges = result.linkage(path)
    order = _leaves(merges, len(result.names))
    count = len(order)
    names = cut((result.names[i] for i in order), _LETTERS, "end")
    side, room = max(1.9, _CELL * count), _LETTER * max(map(len, names))
    # Names to the left and below, and the dendrogram beside.
    figure = sheet(max(WIDTH, 2 * side + 0.6 + room), side + 1.1 + room)
    heat, tree = figure.subplots(
        1, 2, width_ratios=(1.0, 0.8), sharey=True, subplot_kw={"facecolor": "none"}
    )
    for axes in (heat, tree):
        style(axes, theme)
        axes.grid(visible=False)
    cells = _draw_cells(heat, values[np.ix_(order, order)], names, theme)
    _draw_merges(tree, merges, order, threshold, theme)
    bar = figure.colorbar(cells, ax=heat, location="bottom", shrink=0.9, aspect=25)
    bar.ax.tick_params(labelsize=FONT - 2, colors=ink_of(theme), length=0)
    bar.ax.locator_params(nbins=4)
    bar.outline.set_visible(False)
    chosen = next(iter(result.paths)) if path is None else path
    bar.ax.set_xlabel(f"barrier, {chosen}", color=ink_of(theme), fontsize=FONT)
    heat.set_ylim(count - 0.5, -0.5)
    return without_collisions(figure)


def _draw_cells(axes: Axes, values: Any, names: Sequence[str], theme: Theme) -> Any:
    """A cell for each pair, and its number where there is room; gives the image."""
    count = len(values)
    off = ~np.eye(count, dtype=bool)
    refused = off & ~np.isfinite(values)
    shown = np.ma.masked_where(~off | refused, values)
    top = float(shown.max()) if shown.count() else 1.0
    cells = axes.imshow(shown, cmap=filling(theme), vmin=0.0, vmax=top or 1.0)
    for row, column in zip(*np.nonzero(refused), strict=True):
        axes.fill_between(
            [column - 0.5, column + 0.5],
            row - 0.5,
            row + 0.5,
            facecolor="none",
            edgecolor=grid_of(theme),
            hatch="///",
            lw=0,
        )
    if count <= MOST_NUMBERED:
        for row, column in zip(*np.nonzero(off & ~refused), strict=True):
            share = values[row, column] / (top or 1.0)
            axes.text(
                column,
                row,
                f"{values[row, column]:.2g}",
                ha="center",
                va="center",
                fontsize=FONT - 3,
                color="#000000" if share > 0.5 else "#ffffff",
            )
    axes.set_xticks(range(count), names, rotation=90)
    axes.set_yticks(range(count), names)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return cells


def _draw_merges(
    axes: Axes,
    merges: Sequence[tuple[int, int, float, int]],
    order: Sequence[int],
    threshold: float | None,
    theme: Theme,
) -> None:
    """The tree from the networks, at 0, to the right."""
    finite = [barrier for _, _, barrier, _ in merges if math.isfinite(barrier)]
    end = 1.15 * max([*finite, threshold or 0.0]) or 1.0
    look = looks(["merges", "threshold"], theme)
    heights = {leaf: (float(place), 0.0) for place, leaf in enumerate(order)}
    for number, (first, second, barrier, _) in enumerate(merges, len(order)):
        (y0, x0), (y1, x1) = heights[first], heights[second]
        x = barrier if math.isfinite(barrier) else end
        axes.plot(
            [x0, x, x, x1],
            [y0, y0, y1, y1],
            color=look["merges"].colour,
            ls="-" if math.isfinite(barrier) else "--",
            lw=1.6,
        )
        heights[number] = ((y0 + y1) / 2, x)
    if threshold is not None:
        axes.axvline(threshold, color=look["threshold"].colour, ls=":", lw=1.6)
    axes.set(xlabel="barrier of the merge", xlim=(-0.02 * end, end))
    axes.tick_params(axis="y", labelleft=False)
    axes.spines["left"].set_visible(False)


def _leaves(merges: Sequence[tuple[int, int, float, int]], count: int) -> list[int]:
    """Networks in the order in which no branches of the tree cross."""
    members = {i: [i] for i in range(count)}
    for number, (first, second, _, _) in enumerate(merges, count):
        members[number] = members.pop(first) + members.pop(second)
    (order,) = members.values()
    return order
