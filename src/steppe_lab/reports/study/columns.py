"""Columns of a table as numbers and as levels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steppe_lab.studies.row_conditions import as_number


def numbers_of(cells: Sequence[Any]) -> NDArray[np.float64]:
    """Cells as numbers; a text and an empty cell are NaN.

    Example:
        >>> numbers_of([1, "2", None, "a"]).tolist()
        [1.0, 2.0, nan, nan]
    """
    known = (as_number(cell) for cell in cells)
    return np.array([np.nan if n is None else n for n in known], dtype=np.float64)


def is_ordered(cells: Sequence[Any]) -> bool:
    """Whether a factor has an order: all of its cells are numbers."""
    return all(as_number(cell) is not None for cell in cells)


def levels_of(cells: Sequence[Any]) -> list[Any]:
    """Values of a factor, each once: numbers by size, others in order of appearance."""
    levels = list(dict.fromkeys(cells))
    if is_ordered(levels):
        return sorted(levels, key=lambda level: as_number(level) or 0.0)
    return levels
