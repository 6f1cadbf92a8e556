"""The report of studies: sentences, tables, records and page of one or more tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from steppe_lab.reports.study.record import record, rows
from steppe_lab.reports.study.results import StudySummary
from steppe_lab.reports.study.sentences import answer
from steppe_lab.reports.study.terminal import terminal_tables
from steppe_lab.reports.text.csv_text import csv_text
from steppe_lab.store.json_files import write_atomically


class StudyReport:
    """Studies as the verb shows them.

    Args:
        summaries: one for each table; at least one.
    """

    def __init__(self, summaries: Sequence[StudySummary]) -> None:
        self.summaries = tuple(summaries)

    def records(self) -> list[dict[str, Any]]:
        """All statistics of each table."""
        return [record(each) for each in self.summaries]

    def csv(self) -> str:
        """One row for each measure and baseline of each table."""
        flat = [row for each in self.summaries for row in rows(each)]
        keys = dict.fromkeys(key for row in flat for key in row)
        return csv_text([{key: row.get(key) for key in keys} for row in flat])

    def terminal(
        self, width: int
    ) -> Iterator[tuple[StudySummary, list[str], Iterator[Table]]]:
        """Each table with its sentences, and its tables for a terminal."""
        for each in self.summaries:
            yield each, answer(each), terminal_tables(each, width)

    def publish(self, path: Path, command: str) -> Path:
        """Write the page; its path.

        Args:
            path: of the page, replaced if it exists.
            command: makes it again.

        Raises:
            StoreError: it cannot be written.
        """
        # Figures need torch and matplotlib, which numbers alone do without.
        from steppe_lab.reports.study.page import render
        from steppe_lab.reports.text.provenance import made_with

        page = render(self.summaries, command=command, versions=made_with())
        write_atomically(path, page)
        return path
