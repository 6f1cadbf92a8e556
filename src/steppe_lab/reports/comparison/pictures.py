"""The pictures of a comparison, each in words too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from statistics import fmean

import torch

from steppe import plots
from steppe.pages.picture import Picture, pictured
from steppe.surfaces import Surface
from steppe_lab.reports.comparison.around_minima import above_minimum, parting_radius
from steppe_lab.reports.comparison.quantities import HEADLINE, Quantity, metric_of
from steppe_lab.reports.comparison.summary import Cell, Summary
from steppe_lab.reports.comparison.sweep import SweepReport, sweep_of
from steppe_lab.reports.comparison.sweep_plot import sweep_plot
from steppe_lab.reports.text.numbers import listed, mean_of, number, percent
from steppe_lab.reports.text.words import capitalised
from steppe_lab.studies.rows import Comparison, Row
from steppe_lab.training.evaluation import scores_of_trained


def pictures(comparison: Comparison, summary: Summary) -> list[Picture]:
    """Dots for the headline and every measure, lines and curves; none without runs."""
    if not comparison.rows:
        return []
    # A measure that contains the loss is drawn without it, as it is compared.
    asked = [q for q in summary.quantities if q.flatness or q.key == HEADLINE]
    drawn = [_dots(summary, quantity) for quantity in asked if _any(summary, quantity)]
    sweep = sweep_of(comparison)
    if sweep is not None:
        drawn.insert(0, _sweep(sweep))
    if any(_surface(row) for row in comparison.rows):
        drawn.append(_lines(comparison))
    # One scored epoch is a dot, and that is in the figures above.
    held_out = comparison.settings.held_out
    if any(len(_scored(row, "train_loss", 1.0)) > 1 for row in comparison.rows):
        metric = metric_of(comparison)
        label = f"{held_out} {metric.title}"
        drawn.append(
            _curves(comparison, f"test_{metric.name}", label, share=metric.share)
        )
        drawn.append(_curves(comparison, "train_loss", "train loss", share=False))
    return drawn


def _any(summary: Summary, quantity: Quantity) -> bool:
    """Whether any run has a finite value."""
    return any(each.cells[quantity.key].values for each in summary.contenders)


def _dots(summary: Summary, quantity: Quantity) -> Picture:
    factor = 100.0 if quantity.share else 1.0
    cells = {
        contender.optimizer: contender.cells[quantity.key]
        for contender in summary.contenders
    }
    draw = partial(
        plots.dots,
        {name: _scaled(cell, factor) for name, cell in cells.items()},
        xlabel=_label(quantity),
        bounds=_bounds(quantity),
        stderrs={
            name: [v.stderr for v in cell.values.values()]
            for name, cell in cells.items()
        },
        intervals={
            name: (factor * m.mean, factor * m.low, factor * m.high)
            for name, cell in cells.items()
            if (m := cell.mean) is not None
        },
    )
    texts = [f"{name}: {_in_words(cell, quantity)}" for name, cell in cells.items()]
    bars = "; thin bars are standard errors" if _sampled(cells.values()) else ""
    return pictured(
        draw,
        title=_heading(quantity),
        caption=f"One dot per run, below them mean and 95 % interval{bars}. "
        + (f"{_heading(quantity)}: {quantity.note}." if quantity.note else ""),
        alt=f"{_heading(quantity)} of every run. {'. '.join(texts)}.",
    )


def _sweep(report: SweepReport) -> Picture:
    return pictured(
        partial(sweep_plot, report),
        title=f"{capitalised(report.metric.title)}s over {report.setting}",
        caption="Means over seeds with their 95 % intervals. The dotted line is the "
        f"{report.setting} with the best validation {report.metric.title}.",
        alt=f"{capitalised(report.metric.title)}s over {report.setting}. "
        + " ".join(f"{'; '.join(cells)}." for cells in report.table()),
    )


def _lines(comparison: Comparison) -> Picture:
    surfaces = {
        name: [s for row in comparison.of(name) if (s := _surface(row))]
        for name in comparison.settings.optimizers
    }
    whole = comparison.settings.line_radius
    runs = {name: lines for name, lines in surfaces.items() if lines}
    radius = parting_radius(runs)
    near = {
        name: [above_minimum(line, radius) for line in lines]
        for name, lines in runs.items()
    }
    texts = [_ends(name, lines) for name, lines in near.items()]
    chosen = (
        f" of the measured ±{whole:.2g}, where the curves part most for their spread"
        if radius < whole
        else ", as far as it was measured"
    )
    return pictured(
        partial(
            plots.lines,
            near,
            xlabel="distance in norms of the filters",
            ylabel="train loss above its minimum",
        ),
        title="Loss around the minima",
        caption="Train loss above the smallest one along a random line through each "
        "network, its direction scaled filter by filter; thick: mean over runs. Drawn "
        f"to ±{radius:.2g}{chosen}." + other_draws(comparison.rows),
        alt=f"Train loss above its minimum along random lines from −{radius:.2g} to "
        f"{radius:.2g}, mean over runs. {' '.join(texts)}",
    )


def other_draws(rows: Sequence[Row]) -> str:
    """A sentence where some lines were drawn otherwise than the rest; else nothing."""
    lines = [row.line for row in rows if row.line.get("x")]
    # Draws were in the order of layers before they were in that of names; those results
    # have no digest of their direction.
    by_name = ["directions" in line.get("details", {}) for line in lines]
    if len({*by_name}) < 2:
        return ""
    return (
        f" Lines of {by_name.count(False)} of {len(lines)} runs are from an earlier "
        "version, which drew others from the same seeds."
    )


def _curves(comparison: Comparison, key: str, label: str, *, share: bool) -> Picture:
    runs = {
        name: [_scored(row, key, 100.0 if share else 1.0) for row in rows]
        for name in comparison.settings.optimizers
        if (rows := comparison.of(name))
    }
    texts = [_course(name, scores, share) for name, scores in runs.items()]
    drawn = {
        name: [_every_epoch(run) for run in scores] for name, scores in runs.items()
    }
    averaged = any(row.settings.get("average") for row in comparison.rows)
    return pictured(
        partial(plots.curves, drawn, ylabel=f"{label}, %" if share else label),
        title=f"{capitalised(label)} while training",
        caption="Mean over runs; the band is from the lowest to the highest run."
        + (" Of averaged weights where there are any." if averaged else ""),
        alt=f"{capitalised(label)} by epoch, mean over runs. {' '.join(texts)}",
    )


def _surface(row: Row) -> Surface | None:
    if not row.line.get("x"):
        return None
    columns = (
        torch.tensor([math.nan if v is None else v for v in row.line[key]])
        for key in ("loss", "stderr")
    )
    loss, stderr = columns
    x = tuple(row.line["x"])
    return Surface(
        coordinates=(x,), loss=loss, stderr=stderr, samples=row.line.get("samples", 0)
    )


def _scored(row: Row, key: str, factor: float) -> dict[int, float]:
    """The scores of a run by epoch, where it was scored."""
    epochs = (scores_of_trained(epoch) for epoch in row.history)
    return {int(e["epoch"]): factor * e[key] for e in epochs if key in e}


def _every_epoch(scores: Mapping[int, float]) -> list[float]:
    """Values after epochs 1, 2, ... with straight lines between those scored."""
    epochs = sorted(scores)
    drawn = [math.nan] * (epochs[0] - 1) + [scores[epochs[0]]]
    for left, right in pairwise(epochs):
        slope = (scores[right] - scores[left]) / (right - left)
        between = range(left + 1, right)
        drawn += [scores[left] + slope * (epoch - left) for epoch in between]
        drawn.append(scores[right])
    return drawn


def _scaled(cell: Cell, factor: float) -> list[float]:
    return [factor * each.value for each in cell.values.values()]


def _sampled(cells: Iterable[Cell]) -> bool:
    return any(cell.stderr > 0 for cell in cells)


def _bounds(quantity: Quantity) -> tuple[float, float]:
    """Values that a quantity can have, as drawn."""
    if quantity.share:
        return 0.0, 100.0
    # Differences of losses, which some measures are, may be negative.
    loss = quantity.units == "loss" and not quantity.measured
    return (0.0 if loss else -math.inf), math.inf


def _label(quantity: Quantity) -> str:
    if quantity.share:
        return f"{quantity.title}, %"
    same = quantity.units in ("", quantity.title.rpartition(" ")[2])
    return quantity.title if same else f"{quantity.title}, {quantity.units}"


def _in_words(cell: Cell, quantity: Quantity) -> str:
    if cell.mean is None:
        return "no run"
    show = percent if quantity.share else number
    runs = ", ".join(show(each.value) for each in cell.values.values())
    if cell.mean.count < 2:
        return runs
    return f"runs {runs}; mean {mean_of(cell.mean, quantity.share)}"


def _ends(name: str, surfaces: Sequence[Surface]) -> str:
    columns = list(zip(*(s.loss.tolist() for s in surfaces)))
    left, middle, right = (fmean(columns[i]) for i in (0, len(columns) // 2, -1))
    ends = listed([number(left, 2), number(right, 2)])
    return f"{name}: {number(middle, 2)} in the middle, {ends} at the ends."


def _course(name: str, runs: Sequence[Mapping[int, float]], share: bool) -> str:
    # Runs of other lengths share the first epochs; a mean over fewer runs would jump.
    common = sorted(set(runs[0]).intersection(*runs[1:]))
    means = {epoch: fmean(run[epoch] for run in runs) for epoch in common}
    show = (lambda value: percent(value / 100)) if share else number
    first, last, lowest = common[0], common[-1], min(means, key=means.__getitem__)
    return (
        f"{name}: {show(means[first])} after epoch {first}, lowest "
        f"{show(means[lowest])} after epoch {lowest}, {show(means[last])} after "
        f"epoch {last}."
    )


def _heading(quantity: Quantity) -> str:
    return capitalised(quantity.title)
