"""Conditions on the rows of a table, as they are typed: `epoch == converged`."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from steppe.errors import DataError
from steppe_lab.studies.conditions import Condition

Columns = Mapping[str, Sequence[Any]]


def rows_kept(columns: Columns, text: str) -> list[bool]:
    """For each row, whether a condition holds.

    Names of columns are written as they are, with their spaces; a text that is a value
    of a column needs no quotes. A cell is compared as a number where it is one, and an
    empty one is neither less nor more than a number.

    Args:
        columns: by name, of equal length.
        text: of the condition, such as `epoch == converged and training_loss < 0.01`.

    Raises:
        SettingError: no condition, or one of a form that is not allowed.
        DataError: a name of no column.

    Example:
        >>> rows_kept({"epoch": ["50.0", "last"], "my gap": [1, 2]}, "epoch == last")
        [False, True]
    """
    # Columns whose names are no names of Python get one while the text is read.
    given = {
        name: f"column_{place}_"
        for place, name in enumerate(columns)
        if not name.isidentifier() and name
    }
    written = text
    for name in sorted(given, key=len, reverse=True):
        quoted = f"`?(?<![\\w]){re.escape(name)}(?![\\w])`?"
        written = re.sub(quoted, given[name], written)
    condition = Condition(written)
    own = {given.get(name, name): cells for name, cells in columns.items()}
    used = {name: own[name] for name in condition.names & own.keys()}
    words = _words(condition.names - own.keys(), used, text, columns)
    cells = {name: [_comparable(cell) for cell in used[name]] for name in used}
    count = len(next(iter(columns.values()), ()))
    return [
        condition.holds({**words, **{name: cells[name][row] for name in cells}})
        for row in range(count)
    ]


def _words(
    names: set[str] | frozenset[str], used: Columns, text: str, columns: Columns
) -> Mapping[str, str]:
    """Names that stand for themselves: values of the columns in the condition.

    Raises:
        DataError: one that is no such value.
    """
    values = {str(cell) for cells in used.values() for cell in cells}
    for name in sorted(names - values):
        known = ", ".join(filter(None, columns))
        raise DataError(
            f"in '{text}' there is no column or value {name}; the columns are {known}."
        )
    return {name: name for name in names}


def _comparable(cell: Any) -> Any:
    number = as_number(cell)
    if number is not None:
        return number
    return math.nan if cell is None else cell


def as_number(value: Any) -> float | None:
    """A cell as a number; None for a text, a truth value and an empty cell."""
    if value is None or isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
