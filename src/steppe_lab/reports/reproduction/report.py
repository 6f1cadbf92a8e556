"""The report of an experiment: sentences and tables for a terminal, and its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from steppe_lab.reports.reproduction.sentences import cost_sentences, remarks
from steppe_lab.reports.reproduction.tables import (
    cost_table,
    list_table,
    result_table,
)
from steppe_lab.reports.text.terminal import in_parts
from steppe_lab.reproduction.claims import AbstractClaim
from steppe_lab.reproduction.results import ClaimResult, ExperimentResult
from steppe_lab.store.json_files import write_atomically

if TYPE_CHECKING:
    from steppe_lab.reproduction.costs import ClaimCost


NAMES = 44  # columns of the names of cells, at most


def heading(claim: AbstractClaim) -> str:
    """A claim as a heading: its name in commands, its source, its title."""
    return f"{claim.name} ({claim.source}): {claim.title}"


def shown_result(result: ClaimResult, width: int) -> tuple[Iterator[Table], list[str]]:
    """A claim on a terminal: its tables, and sentences on them."""
    table = replace(result_table(result), name="")
    tables = in_parts(table, width, NAMES) if table.rows else iter(())
    return tables, [f"{table.caption}.", *remarks(result)]


def shown_claim(claim: AbstractClaim, width: int) -> tuple[Iterator[Table], list[str]]:
    """A claim on a terminal, without our numbers: its cells, and sentences on them."""
    table = list_table(claim)
    return in_parts(table, width, NAMES), [
        f"{table.caption}. Reproduced means: {claim.reproduced}",
        f"Scales: {', '.join(claim.scales)}.",
        *claim.caveats,
    ]


def shown_costs(
    costs: Sequence[ClaimCost], workers: int, width: int
) -> tuple[Iterator[Table], list[str]]:
    """Costs on a terminal: tables, and sentences on the time that is left."""
    return in_parts(cost_table(costs), width, NAMES), cost_sentences(costs, workers)


def publish(result: ExperimentResult, path: Path, command: str) -> Path:
    """Write the page of an experiment; its path.

    Args:
        result: of all claims.
        path: of the page, replaced if it exists.
        command: makes it again.

    Raises:
        StoreError: it cannot be written.
    """
    # Figures need matplotlib, which numbers alone do without.
    from steppe_lab.reports.reproduction.page import render
    from steppe_lab.reports.text.provenance import made_with

    write_atomically(path, render(result, command=command, versions=made_with()))
    return path
