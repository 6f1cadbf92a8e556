"""A spectrum as tables on a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from steppe_lab.analysis.spectrum import NetworkSpectrum
from steppe_lab.reports.spectrum.words import end_rows, layer_rows, sums


def ends_table(result: NetworkSpectrum) -> Table:
    """Eigenvalues at both ends with their residuals."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("rank", "largest", "residual", "smallest", "residual"):
        table.add_column(name, justify="right")
    for cells in end_rows(result):
        table.add_row(*cells)
    return table


def sums_table(result: NetworkSpectrum) -> Table:
    """Numbers about the whole spectrum."""
    table = Table("", "value", "how", box=box.SIMPLE_HEAD, show_edge=False)
    for row in sums(result):
        table.add_row(Text(row.title), row.value, Text(row.how))
    return table


def layers_table(result: NetworkSpectrum) -> Table:
    """The trace tensor by tensor."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False)
    table.add_column("tensor")
    for name in ("entries", "trace", "share", "per entry"):
        table.add_column(name, justify="right")
    for name, *cells in layer_rows(result):
        table.add_row(Text(name), *cells)
    return table
