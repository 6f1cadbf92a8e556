"""Linear assignment: the one-to-one choice of columns for rows of largest sum.

Source: Jonker and Volgenant, 1987, doi:10.1007/BF02278710: shortest augmenting paths
from a start by reduction of columns and rows; all columns are looked at in one vector
operation.

Shape letters: N rows and columns.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from steppe.errors import SettingError

Floats = npt.NDArray[np.float64]
Order = npt.NDArray[np.intp]


def largest_assignment(values: Floats) -> Order:
    """The column of each row, shape (N,), whose values have the largest sum.

    It takes a time of order N^3 at most.

    Args:
        values: finite numbers, shape (N, N).

    Raises:
        SettingError: another shape, or numbers that are not finite.

    Example:
        >>> largest_assignment(np.array([[1.0, 3.0], [2.0, 5.0]])).tolist()
        [0, 1]
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1]:
        raise SettingError(
            f"values must be a square matrix, got the shape {values.shape}."
        )
    if not np.isfinite(values).all():
        raise SettingError("values must be finite, got an infinity or NaN.")
    costs = -values
    columns, rows, prices = _start(costs)
    for row in np.flatnonzero(columns < 0):
        _augment(costs, int(row), columns, rows, prices)
    return columns


def _start(costs: Floats) -> tuple[Order, Order, Floats]:
    """A partial assignment: columns of rows, rows of columns (-1: free), and prices.

    With the least reduced cost of a row as its own price, no pair costs less than its
    two prices, and pairs that are assigned cost just them.
    """
    size = len(costs)
    columns = np.full(size, -1, dtype=np.intp)
    rows = np.full(size, -1, dtype=np.intp)
    prices: Floats = costs.min(0) if size else np.zeros(0)
    free = list(range(size))
    for _ in range(2):  # reductions of augmenting rows, as published
        free = _reduced(costs, free, columns, rows, prices)
    return columns, rows, prices


def _reduced(
    costs: Floats, free: list[int], columns: Order, rows: Order, prices: Floats
) -> list[int]:
    """Give each free row its best column at a lower price; rows that are left free."""
    left: list[int] = []
    waiting = free[::-1]
    # Near ties could hand one column to and fro by ever smaller steps.
    steps = 4 * len(costs)
    while waiting:
        row, steps = waiting.pop(), steps - 1
        reduced = costs[row] - prices
        best = int(reduced.argmin())
        least = reduced[best]
        reduced[best] = np.inf
        second = reduced.min()
        owner = int(rows[best])
        if owner >= 0 and not second > least:
            left.append(row)
            continue
        if np.isfinite(second):
            prices[best] -= second - least
        rows[best], columns[row] = row, best
        if owner >= 0:
            columns[owner] = -1
            (waiting if steps > 0 else left).append(owner)
    return left


def _augment(
    costs: Floats, start: int, columns: Order, rows: Order, prices: Floats
) -> None:
    """Assign one more row along the shortest path to a free column."""
    size = len(costs)
    distance = costs[start] - prices
    before = np.full(size, start, dtype=np.intp)  # row that each column is reached from
    open_ = np.ones(size, dtype=bool)
    reached: list[int] = []
    masked = distance.copy()
    while True:
        column = int(masked.argmin())
        least = masked[column]
        if rows[column] < 0:
            break
        open_[column] = False
        masked[column] = np.inf
        reached.append(column)
        row = int(rows[column])
        reduced = costs[row] - prices
        through = reduced - reduced[column] + least
        shorter = (through < distance) & open_
        distance[shorter] = through[shorter]
        masked[shorter] = through[shorter]
        before[shorter] = row
    done = np.array(reached, dtype=np.intp)
    prices[done] += distance[done] - least
    while True:
        row = int(before[column])
        rows[column] = row
        columns[row], column = column, int(columns[row])
        if row == start:
            return
