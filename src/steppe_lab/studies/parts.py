"""The parts of a table as a reader chooses them, and the rows that are used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from steppe.errors import UsageError
from steppe_lab.studies.row_conditions import Columns, as_number, rows_kept
from steppe_lab.studies.table import Dropped, StudyTable

TRIAL = "trial"  # column with the name of each row, where there is one


@dataclass(frozen=True)
class Parts:
    """Chosen parts of a table; the others are as they were, or guessed."""

    gap: str | None = None
    factors: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    where: str | None = None


def with_parts(table: StudyTable, parts: Parts) -> StudyTable:
    """A table with other parts, of the rows that a condition holds for.

    Raises:
        UsageError: no row is left.
        DataError: a name that is no column.
    """
    own, gap = table.gap, parts.gap or table.gap
    table = replace(table, gap=gap)  # which refuses a name of no column
    columns, dropped = used_rows(table.columns, gap, parts.where or "")
    factors = parts.factors or table.factors
    return replace(
        table,
        columns=columns,
        factors=factors,
        measures=parts.measures or table.measures,
        group=parts.group or (factors if parts.factors else table.group),
        dropped=(*table.dropped, *dropped),
        test_samples=table.test_samples if gap == own else None,
    )


def used_rows(
    columns: Columns, gap: str, where: str
) -> tuple[dict[str, list[Any]], list[Dropped]]:
    """Rows that a condition holds for and whose gap is a finite number.

    Args:
        columns: by name, of equal length.
        gap: column of the gap.
        where: the condition; "" for all rows.

    Returns:
        Columns of those rows, and the others with their reasons.

    Raises:
        UsageError: no row is left of some.
        SettingError: no condition.
        DataError: the condition names no column.
    """
    count = len(next(iter(columns.values()), ()))
    holds = rows_kept(columns, where) if where else [True] * count
    finite = [math.isfinite(as_number(cell) or 0.0) for cell in columns[gap]]
    known = [as_number(cell) is not None for cell in columns[gap]]
    dropped, keep = [], []
    for row in range(count):
        reason = "" if holds[row] else f"{where} does not hold"
        if not reason and not (finite[row] and known[row]):
            reason = f"no finite {gap}"
        keep.append(not reason)
        if reason:
            dropped.append(Dropped(_name(columns, row), reason))
    if count and not any(keep):
        rule = f" where {where}" if where else ""
        raise UsageError(
            f"no row has a finite {gap}{rule}; name another column with --gap, or "
            "other rows with --where."
        )
    return {name: _kept(cells, keep) for name, cells in columns.items()}, dropped


def _kept(cells: Sequence[Any], keep: Sequence[bool]) -> list[Any]:
    return [cell for cell, kept in zip(cells, keep, strict=True) if kept]


def _name(columns: Columns, row: int) -> str:
    """The name of a trial, or its line in a file whose first line is the heading."""
    return str(columns[TRIAL][row]) if TRIAL in columns else f"line {row + 2}"
