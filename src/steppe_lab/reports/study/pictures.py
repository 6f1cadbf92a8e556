"""Pictures of a study: correlations with intervals, the best measure, levels."""

from __future__ import annotations

import math
from functools import partial

from steppe import plots
from steppe.pages.picture import Picture, pictured
from steppe_lab.reports.study.along import Along
from steppe_lab.reports.study.columns import levels_of, numbers_of
from steppe_lab.reports.study.results import Predictor, StudySummary
from steppe_lab.reports.study.tables import ends_text, tau_text
from steppe_lab.reports.text.numbers import number
from steppe_lab.studies.table import StudyTable

GROUPS = 8  # of one picture, which have colours of their own
PANELS = 8  # measures along one factor that are drawn


def pictures(summary: StudySummary) -> list[Picture]:
    """Correlations of all predictors, and the best measure against the gap."""
    shown = [_intervals(summary)] if _defined(summary) else []
    best = summary.best_measure
    if best is not None:
        shown.append(_scatter(summary.table, best))
    return shown


def panels(summary: StudySummary) -> list[Picture]:
    """The gap and the measures that follow a factor most, along its levels."""
    by_factor: dict[str, list[Along]] = {}
    for each in summary.along:
        by_factor.setdefault(each.factor, []).append(each)
    return [
        _panel(each)
        for along in by_factor.values()
        for each in _chosen(along, summary.table.gap)
    ]


def _chosen(along: list[Along], gap: str) -> list[Along]:
    """The gap, and the measures with the largest tau along the factor."""
    own = [each for each in along if each.column == gap]
    others = [each for each in along if each.column != gap and each.means]
    size = {each.column: abs(each.tau) for each in others if math.isfinite(each.tau)}
    others.sort(key=lambda each: -size.get(each.column, -1.0))
    return [*own, *others[:PANELS]]


def _defined(summary: StudySummary) -> list[Predictor]:
    return [each for each in summary.predictors if each.tau.is_defined]


def _intervals(summary: StudySummary) -> Picture:
    kinds = {"measures": summary.measures, "hyper-parameters alone": summary.baselines}
    values = {
        kind: {e.name: (e.tau.value, e.tau.low, e.tau.high) for e in each}
        for kind, members in kinds.items()
        if (each := [e for e in members if e.tau.is_defined])
    }
    words = [
        f"{e.name} {tau_text(e.tau.value)} {ends_text(e.tau)}".strip()
        for e in _defined(summary)
    ]
    return pictured(
        partial(plots.intervals, values, xlabel=f"τ with {summary.table.gap}"),
        title=f"Correlation with {summary.table.gap}",
        caption="Kendall's τ over all networks; bars are 95 % intervals.",
        alt=f"Kendall's τ with {summary.table.gap}: {'; '.join(words)}.",
    )


def _scatter(table: StudyTable, best: Predictor) -> Picture:
    x, y = numbers_of(table.columns[best.name]), numbers_of(table.columns[table.gap])
    factor = _colouring(table)
    groups: dict[str, tuple[list[float], list[float]]] = {}
    if factor is None:
        groups[""] = (x.tolist(), y.tolist())
    else:
        for level in levels_of(table.columns[factor]):
            own = [cell == level for cell in table.columns[factor]]
            groups[str(level)] = (x[own].tolist(), y[own].tolist())
    coloured = f", coloured by {factor}" if factor else ""
    return pictured(
        partial(plots.scatter, groups, xlabel=best.name, ylabel=table.gap),
        title=f"{best.name} and {table.gap}",
        caption=f"One dot per network{coloured}.",
        alt=f"{table.gap} against {best.name}, τ {tau_text(best.tau.value)}{coloured}.",
    )


def _colouring(table: StudyTable) -> str | None:
    """The first factor with few enough levels."""
    for name in table.factors:
        if 2 <= len(set(table.columns[name])) <= GROUPS:
            return name
    return None


def _panel(along: Along) -> Picture:
    means = {x: (i.mean, i.low, i.high) for x, i in along.means.items()}
    counts = sorted({interval.count for interval in along.means.values()})
    spread = " to ".join(map(str, (counts[0], counts[-1])[: len(counts)]))
    words = [f"{number(x)}: {number(mean)}" for x, (mean, _, _) in means.items()]
    bars = "; bars are 95 % intervals of the mean" if counts[-1] > 1 else ""
    return pictured(
        partial(
            plots.levels,
            along.runs,
            intervals=means,
            xlabel=along.factor,
            ylabel=along.column,
        ),
        title=f"{along.column} along {along.factor}: τ = {tau_text(along.tau, 2)}",
        caption=f"τ of levels and means over {spread} "
        f"{'network' if counts[-1] == 1 else 'networks'} each{bars}.",
        alt=f"Mean {along.column} by {along.factor}: {', '.join(words)}.",
    )
