"""The report of a comparison: table, sentences, rows and files of one comparison."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Group

from steppe_lab.reports.comparison import publishing, terminal
from steppe_lab.reports.comparison.rows import rows
from steppe_lab.reports.comparison.sentences import reading
from steppe_lab.reports.comparison.summary import Summary, summarise
from steppe_lab.reports.comparison.sweep import SweepReport, sweep_of
from steppe_lab.studies.rows import Comparison


class ComparisonReport:
    """A comparison as verbs show it.

    Args:
        comparison: with its finished rows; runs may have failed.
    """

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    @cached_property
    def summary(self) -> Summary:
        """Means over seeds and differences to the first optimizer."""
        return summarise(self.comparison)

    @cached_property
    def sweep(self) -> SweepReport | None:
        """Errors by value; None for a comparison without a swept setting."""
        return sweep_of(self.comparison)

    def table(self) -> Group:
        """The table of means, and that of a sweep below it."""
        tables = [terminal.table(self.summary)]
        if self.sweep is not None:
            tables.append(terminal.sweep_table(self.sweep))
        return Group(*tables)

    def sentences(self) -> list[str]:
        """Sentences about the optimizers or failures, and last the answer."""
        if self.sweep is not None:
            return [*self.comparison.failures, self.sweep.answer]
        return reading(self.summary)

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary of plain values per network."""
        return rows(self.comparison)

    def publish(
        self, folder: Path, *, again: bool = False, data_dir: Path | None = None
    ) -> Path:
        """Write the page and the rows into a folder; the path of the page.

        Raises:
            StoreError: there are no rows, or a file cannot be written.
        """
        return publishing.publish(
            self.comparison, folder, again=again, data_dir=data_dir
        )
