"""A comparison as a table on a terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table
from rich.text import Text

from steppe_lab.reports.comparison.answer import allowing
from steppe_lab.reports.comparison.quantities import HEADLINE, TRAIN_LOSS, Quantity
from steppe_lab.reports.comparison.sentences import ends
from steppe_lab.reports.comparison.summary import Contender, Summary
from steppe_lab.reports.comparison.sweep import SweepReport
from steppe_lab.reports.text.numbers import mean_of

TITLES = 24  # columns of the names of quantities; longer ones wrap
ACROSS = 3  # optimizers that fit side by side on 80 columns


def table(summary: Summary) -> Table:
    """Means ± half of their 95 % intervals; bold where best beyond noise.

    Up to three optimizers stand side by side; more stand below each other, with what
    the question is about.
    """
    means = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        caption=_caption(summary),
        caption_justify="left",
        show_edge=False,
    )
    means.add_column("", max_width=TITLES)
    if len(summary.contenders) <= ACROSS:
        for contender in summary.contenders:
            means.add_column(Text(contender.optimizer), justify="right")
        for quantity in summary.quantities:
            cells = [
                _cell(summary, contender, quantity) for contender in summary.contenders
            ]
            means.add_row(Text(quantity.title), *cells)
        means.add_row(
            "gradients a step",
            *(_gradients(contender) for contender in summary.contenders),
        )
        if epochs := ends(summary):
            means.add_row("epochs", *epochs)
        return means
    asked = [q for q in summary.quantities if q.measured or q.key in _ASKED]
    for quantity in asked:
        means.add_column(Text(quantity.title), justify="right")
    means.add_column("gradients a step", justify="right")
    epochs = ends(summary)
    if epochs:
        means.add_column("epochs", justify="right")
    for place, contender in enumerate(summary.contenders):
        cells = [_cell(summary, contender, quantity) for quantity in asked]
        last = [_gradients(contender), *epochs[place : place + 1]]
        means.add_row(Text(contender.optimizer), *cells, *last)
    return means


def sweep_table(sweep: SweepReport) -> Table:
    """The errors of a sweep by value."""
    errors = Table(*sweep.heads, box=box.SIMPLE_HEAD, show_edge=False)
    for cells in sweep.table():
        errors.add_row(*cells)
    return errors


_ASKED = (HEADLINE, TRAIN_LOSS)


def _cell(summary: Summary, contender: Contender, quantity: Quantity) -> Text:
    mean = contender.cells[quantity.key].mean
    if mean is None:
        return Text("–")
    best = summary.clear_best(quantity.key) == contender.optimizer
    return Text(mean_of(mean, quantity.share), style="bold" if best else "")


def _gradients(contender: Contender) -> str:
    return "–" if contender.gradients is None else f"{contender.gradients:.3g}"


def _caption(summary: Summary) -> str:
    counts = sorted({contender.runs for contender in summary.contenders})
    seeds = " to ".join(map(str, (counts[0], counts[-1])[: len(counts)]))
    if counts[-1] < 2:
        return "one seed, so no intervals"
    return (
        f"mean ± half a 95 % interval, {seeds} seeds; bold: best beyond noise"
        f"{allowing(summary)}"
    )
