"""Attacks as a table on a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from steppe_lab.analysis.attacking import AttackedNetwork
from steppe_lab.reports.attack.words import budget_names, rows


def robust_table(done: AttackedNetwork) -> Table:
    """The share of samples that resist each attack, by budget, with its interval."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("resisting")
    table.add_column("norm")
    for budget in budget_names(done):
        table.add_column(budget, justify="right")
    for name, norm, cells in rows(done):
        shown = (f"{share}\n{ends}" for share, ends in cells)
        table.add_row(Text(name), norm, *shown)
    return table
