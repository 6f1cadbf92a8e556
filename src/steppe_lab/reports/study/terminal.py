"""A study as tables on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from steppe_lab.reports.study import tables
from steppe_lab.reports.study.results import StudySummary, Within
from steppe_lab.reports.text.terminal import WIDTH, in_parts


def terminal_tables(summary: StudySummary, width: int = WIDTH) -> Iterator[Table]:
    """Tables of a study, each with its name above it.

    Args:
        summary: of a study.
        width: of the terminal, in columns.
    """
    yield from in_parts(tables.prediction(summary), width)
    if summary.table.factors:
        yield from in_parts(tables.robustness(summary), width)
        yield from in_parts(tables.by_factor(summary), width)
    for rows in within_factors(summary):
        yield from in_parts(tables.within(rows), width)
    if summary.splits:
        yield from in_parts(tables.splits(summary), width)
    if summary.scores:
        yield from in_parts(tables.scores(summary.scores), width)
    if summary.robust:
        yield from in_parts(tables.robust(summary.robust), width)
    if summary.optima:
        yield from in_parts(tables.optima(summary), width)
    yield from in_parts(tables.coverage(summary), width)


def within_factors(summary: StudySummary) -> list[list[Within]]:
    """Groups of one factor each."""
    grouped: dict[str, list[Within]] = {}
    for row in summary.within:
        grouped.setdefault(row.factor, []).append(row)
    return list(grouped.values())
