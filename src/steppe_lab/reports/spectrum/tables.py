"""A spectrum as tables on a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from steppe_lab.analysis.spectrum import NetworkSpectrum
from steppe_lab.reports.spectrum.words import end_rows, layer_rows, sums


def ends_table(found: NetworkSpectrum) -> Table:
    """Eigenvalues at both ends with their residuals."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for name in ("rank", "largest", "residual", "smallest", "residual"):
        made.add_column(name, justify="right")
    for cells in end_rows(found):
        made.add_row(*cells)
    return made


def sums_table(found: NetworkSpectrum) -> Table:
    """Numbers about the whole spectrum."""
    made = Table("", "value", "how", box=box.SIMPLE_HEAD, show_edge=False)
    for row in sums(found):
        made.add_row(Text(row.title), row.value, Text(row.how))
    return made


def layers_table(found: NetworkSpectrum) -> Table:
    """The trace tensor by tensor."""
    made = Table(box=box.SIMPLE_HEAD, show_edge=False)
    made.add_column("tensor")
    for name in ("entries", "trace", "share", "per entry"):
        made.add_column(name, justify="right")
    for name, *cells in layer_rows(found):
        made.add_row(Text(name), *cells)
    return made
