"""Tables of a study, for the page and for a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from steppe_lab.reports.study.results import Bounded, Predictor, StudySummary, Within
from steppe_lab.reports.study.robust import RobustCell, RobustTable
from steppe_lab.reports.study.scores import Score, ScoreTable
from steppe_lab.reports.text.cells import NONE, CellTable, TableCell
from steppe_lab.reports.text.numbers import number, one_or_more, with_error
from steppe_lab.studies.robustness import shown

MINUS = "−"
RESIDUALS = {  # heads, and the names in records
    "residual τ": "raw",
    "residual τ, log": "log",
    "residual τ, rank": "rank",
}


def tau_text(value: float, digits: int = 3) -> str:
    """A correlation or a share with three places.

    Example:
        >>> tau_text(-0.0421), tau_text(float("nan"))
        ('−0.042', '–')
    """
    if not math.isfinite(value):
        return "–"
    text = f"{value:.{digits}f}"
    return (text if float(text) else f"{0:.{digits}f}").replace("-", MINUS)


def ends_text(bounded: Bounded) -> str:
    """The ends of an interval in brackets; "" where there are none."""
    if not (math.isfinite(bounded.low) and math.isfinite(bounded.high)):
        return ""
    return f"[{tau_text(bounded.low)}, {tau_text(bounded.high)}]"


def prediction(summary: StudySummary) -> CellTable:
    """Correlation of each measure and baseline with the gap."""
    return CellTable(
        "Measures and baselines as predictors of the gap",
        f"τ with {summary.table.gap} and its difference to that of the best baseline, "
        "95 % intervals in brackets; baselines are hyper-parameters alone",
        ("", "τ", "τ − best baseline", "networks"),
        tuple(
            (
                _name(each),
                _bounded(each.tau),
                _bounded(each.difference, signed=True),
                _refused(summary, each),
            )
            for each in summary.predictors
        ),
    )


def robustness(summary: StudySummary) -> CellTable:
    """Scores of each measure beside those of hyper-parameters alone."""
    return CellTable(
        "Beyond the hyper-parameters",
        "Ψ is the mean τ along single factors; min CMI the least conditional mutual "
        "information; the sign error that of the worst environment; residual τ that "
        "after additive effects of the factors, of the measure, its logarithm and its "
        "ranks; the ceiling the largest τ that its standard errors leave",
        ("", "Ψ", "min CMI", "worst sign error", *RESIDUALS, "noise ceiling"),
        tuple(_robustness_row(each) for each in summary.measures),
    )


def _robustness_row(each: Predictor) -> tuple[TableCell, ...]:
    given = " and ".join(each.information.given)
    information = TableCell(
        tau_text(each.information.value, 4), given and f"given {given}"
    )
    worst = TableCell(tau_text(each.worst.error), each.worst.words)
    return (
        _name(each),
        _plain(each.psi),
        information if math.isfinite(each.information.value) else NONE,
        worst if math.isfinite(each.worst.error) else NONE,
        *(_plain(each.residual.get(kind, math.nan)) for kind in RESIDUALS.values()),
        _plain(each.ceiling),
    )


def by_factor(summary: StudySummary) -> CellTable:
    """Tau along each factor while the others are fixed."""
    factors = summary.table.factors
    return CellTable(
        "τ along each factor",
        "Averaged over seeds, all other factors fixed, and the mean over what they are "
        "fixed at; Ψ is the mean over factors",
        ("", *factors, "Ψ"),
        tuple(
            (
                _name(each),
                *(_plain(each.by_factor.get(name, math.nan)) for name in factors),
                _plain(each.psi),
            )
            for each in summary.measures
        ),
    )


def within(rows: Sequence[Within]) -> CellTable:
    """Tau within the levels of one factor."""
    groups = list(dict.fromkeys(level for row in rows for level in row.groups))
    (factor,) = {row.factor for row in rows}
    return CellTable(
        f"Within {factor}",
        f"τ of all networks, of pairs with one {factor}, and of networks with one of "
        "its levels; marked where the groups tell another story than the whole",
        ("", "all", "within", "remark", *map(str, groups)),
        tuple(
            (
                TableCell(row.measure),
                _plain(row.pooled),
                _bounded(row.within),
                TableCell("Simpson", strong=True) if row.warning else NONE,
                *(_group(row, level) for level in groups),
            )
            for row in rows
        ),
    )


def _group(row: Within, level: object) -> TableCell:
    tau, count = row.groups.get(level, (math.nan, 0))
    return TableCell(tau_text(tau), one_or_more(count, "network"))


def splits(summary: StudySummary) -> CellTable:
    """Tests whether two groups have one distribution."""
    return CellTable(
        "Two groups compared",
        "Kolmogorov-Smirnov test of two samples, two-sided; p of one distribution, "
        "and the same allowing for all tests of these groups (Holm)",
        ("", "groups", "networks", "distance", "p", "p, Holm"),
        tuple(
            (
                TableCell(each.column),
                TableCell(f"{each.first} / {each.second}", each.factor),
                TableCell(f"{each.counts[0]} / {each.counts[1]}"),
                TableCell(tau_text(each.statistic)),
                TableCell(number(each.p, 2)),
                TableCell(number(each.adjusted_p, 2)),
            )
            for each in summary.splits
        ),
    )


def scores(given: ScoreTable) -> CellTable:
    """Scores after the last and at the best epoch."""
    marked = " †" if given.best_on_test else ""
    note = "; † the best epoch was chosen on test data" if given.best_on_test else ""
    best = any(row.best for row in given.rows)
    kinds = ("last epoch", f"best epoch{marked}") if best else ("mean",)
    if all(row.count < 2 for row in given.rows) and not best:
        kinds = (given.score,)
    return CellTable(
        f"{given.score} by {', '.join(given.factors)}",
        "Mean ± 1.96 σ / √n over networks, with σ of the population; below it the 95 % "
        f"interval of Student{note}",
        (*given.factors, "networks", *kinds),
        tuple(
            (
                *(TableCell(str(level)) for level in row.levels),
                TableCell(str(row.count)),
                _score(row.last),
                *((_score(row.best),) if best else ()),
            )
            for row in given.rows
        ),
    )


def robust(given: RobustTable) -> CellTable:
    """Accuracies under attack."""
    by = f" by {', '.join(given.factors)}" if given.factors else ""
    note = "Share of the attacked samples that are classified rightly, by attack and "
    note += "budget; worst is the share that resists every attack. "
    if all(row.count < 2 for row in given.rows):
        note += "± is the standard error over the samples"
    else:
        note += "Mean ± 1.96 σ / √n over networks, with σ of the population; below it "
        note += "the 95 % interval of Student, between 0 and 1"
    return CellTable(
        f"Accuracy under attack{by}",
        note,
        (*given.factors, "networks", *map(shown, given.columns)),
        tuple(
            (
                *(TableCell(str(level)) for level in row.levels),
                TableCell(str(row.count)),
                *map(_robust, row.cells),
            )
            for row in given.rows
        ),
    )


def _robust(cell: RobustCell | None) -> TableCell:
    if cell is None:
        return NONE
    if math.isfinite(cell.stderr):
        return TableCell(with_error(cell.score.interval.mean, cell.stderr))
    return _score(cell.score)


def optima(summary: StudySummary) -> CellTable:
    """The best level of the setting that was swept."""
    first = summary.optima[0]
    return CellTable(
        f"Best {first.optimum.setting} by {first.score}",
        "The level with the best mean over seeds, and the interval that covers the "
        "truly best one with 95 %, from t tests of pairs of one seed (Bonferroni)",
        (
            "",
            f"best {first.optimum.setting}",
            "interval",
            f"mean {first.score}",
            "seeds",
        ),
        tuple(
            (
                TableCell(", ".join(each.words) or "all"),
                TableCell(str(each.optimum.best), "at the edge" * each.optimum.at_edge),
                TableCell(f"{each.optimum.low} to {each.optimum.high}"),
                TableCell(number(each.optimum.score.mean, 4)),
                TableCell(str(each.optimum.score.count)),
            )
            for each in summary.optima
        ),
    )


def coverage(summary: StudySummary) -> CellTable:
    """Levels of each factor with their networks."""
    return CellTable(
        "Levels of the factors",
        "Networks in the table, by level",
        ("factor", "levels", "networks by level"),
        tuple(
            (
                TableCell(name),
                TableCell(str(len(levels))),
                TableCell(", ".join(f"{level}: {count:,}" for level, count in levels)),
            )
            for name, levels in summary.coverage.levels.items()
        ),
    )


def _score(score: Score | None) -> TableCell:
    if score is None:
        return NONE
    mean, student = score.interval.mean, score.interval
    if student.count < 2:
        return TableCell(number(mean, 4), "one network")
    places = max(0, 1 - _size(score.normal)) if score.normal else 4
    digits = [
        f"{value:,.{places}f}".replace("-", MINUS) for value in (mean, score.normal)
    ]
    ends = [f"{e:,.{places}f}".replace("-", MINUS) for e in (student.low, student.high)]
    return TableCell(" ± ".join(digits), f"[{', '.join(ends)}]")


def _size(value: float) -> int:
    return math.floor(math.log10(abs(value)))


def _name(each: Predictor) -> TableCell:
    return TableCell(each.name, "baseline" if each.is_baseline else "")


def _refused(summary: StudySummary, each: Predictor) -> TableCell:
    """Networks with a value, and how many refused a measure."""
    count = sum(r.count for r in summary.table.refused if r.measure == each.name)
    return TableCell(f"{each.count:,}", f"refused by {count:,}" if count else "")


def _bounded(bounded: Bounded, *, signed: bool = False) -> TableCell:
    if not bounded.is_defined:
        return NONE
    clear = bounded.excludes(0.0)
    text = tau_text(bounded.value)
    text = f"+{text}" if signed and bounded.value > 0 else text
    return TableCell(text, ends_text(bounded), strong=clear and not signed)


def _plain(value: float) -> TableCell:
    return TableCell(tau_text(value)) if math.isfinite(value) else NONE
