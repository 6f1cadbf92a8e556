"""A table of numbers as coloured cells, such as a sharpness by two settings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from steppe.plots.canvas import (
    FONT,
    WIDTH,
    Theme,
    canvas,
    ink_of,
    wants_log,
    without_collisions,
)
from steppe.plots.names import BESIDE, cut
from steppe.plots.planes.colours import filling

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CELL = 0.45  # inches of height
_LETTER, _GAP = 0.09, 0.1  # inches of a letter, and between two cells' letters
_NUMBER = 5  # letters of a number, with few exceptions
_BESIDE = 1.0  # inches of the names of rows
_AXIS = 0.9  # inches of the axis and its name
_LIGHT = 0.45  # lightness of a cell from which on its number is dark


def tiles(
    values: Mapping[Any, Mapping[Any, float]],
    *,
    xlabel: str,
    ylabel: str,
    label: str,
    theme: Theme = "light",
) -> Figure:
    """Draw a cell for each row and column, coloured by its value, which stands in it.

    Colours are spread over decades where all values are positive and span more than a
    factor of 30. A cell without a finite value is empty.

    Args:
        values: by row, the first at the top, and column, in the order of the first row.
        xlabel: name of the setting of the columns.
        ylabel: name of the setting of the rows.
        label: what the values are.
        theme: "light" for dark ink on a light page, "dark" for the contrary.

    Raises:
        UsageError: matplotlib is not installed.
    """
    columns = list(dict.fromkeys(name for row in values.values() for name in row))
    above = cut(columns, BESIDE // 2)
    longest = max(_NUMBER, *map(len, above), 0)
    width = max(WIDTH, _BESIDE + len(columns) * (_LETTER * longest + _GAP))
    height = _AXIS + _CELL * max(3, len(values))
    figure, axes = canvas(theme, width=width, height=height)
    numbers = np.array(
        [[row.get(name, math.nan) for name in columns] for row in values.values()],
        dtype=float,
    ).reshape(len(values), len(columns))
    finite = numbers[np.isfinite(numbers)]
    colours = filling(theme)
    share = _shares(numbers, log=wants_log(finite.tolist()))
    for row, column in zip(*np.nonzero(np.isfinite(numbers)), strict=True):
        colour = colours(float(share[row, column]))
        axes.barh(row, 0.96, left=column - 0.48, height=0.94, color=colour)
        dark = float(np.dot(colour[:3], (0.2126, 0.7152, 0.0722))) > _LIGHT
        axes.text(
            column,
            row,
            f"{numbers[row, column]:.3g}",
            ha="center",
            va="center",
            fontsize=FONT,
            color="#000001" if dark else "#fffffe",
        )
    axes.set_xticks(range(len(columns)), above)
    axes.set_yticks(range(len(values)), cut(values, BESIDE))
    axes.set(
        xlim=(-0.5, max(1, len(columns)) - 0.5), ylim=(max(1, len(values)) - 0.5, -0.5)
    )
    axes.set(xlabel=xlabel, ylabel=ylabel)
    axes.grid(visible=False)
    axes.set_title(label, color=ink_of(theme), fontsize=FONT)
    return without_collisions(figure)


def _shares(numbers: np.ndarray[Any, Any], *, log: bool) -> np.ndarray[Any, Any]:
    """Places of values between the least and the largest, 0 to 1; NaN stays."""
    on_axis = np.log(numbers) if log else numbers
    known = on_axis[np.isfinite(on_axis)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    return (on_axis - low) / ((high - low) or 1.0)
