"""Findings of a study: a kind, its subject, its numbers; sentences are made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steppe_lab.reports.study.results import ALPHA, Bounded, Predictor, StudySummary
from steppe_lab.reports.study.splits import ADAPTIVE_WORDS

FEW = 20  # networks, below which a correlation says little
FEW_CONFIGURATIONS = 8  # below which intervals are too wide to be of use


@dataclass(frozen=True)
class BestMeasure:
    """The measure with the largest tau, among how many."""

    measure: str
    tau: Bounded
    among: int
    networks: int


@dataclass(frozen=True)
class AgainstBaseline:
    """The best measure beside the best baseline."""

    measure: str
    baseline: str
    baseline_tau: Bounded
    difference: Bounded
    clear: bool  # beyond noise, allowing for all measures


@dataclass(frozen=True)
class Together:
    """All hyper-parameters in one model, where they say more than the best of them."""

    tau: Bounded  # of pairs that the model was not fitted to


@dataclass(frozen=True)
class AboveBaseline:
    """Measures whose tau is above that of the best baseline beyond noise."""

    above: int
    below: int
    among: int


@dataclass(frozen=True)
class NoMeasure:
    """No measure has a correlation with the gap."""

    why: str


@dataclass(frozen=True)
class Simpson:
    """A correlation of all networks that groups of them do not have."""

    measure: str
    factor: str
    warning: str
    others: int  # further pairs of a measure and a factor with the same warning


@dataclass(frozen=True)
class NegativeTau:
    """Measures that fall as the gap grows, beyond noise."""

    measures: tuple[str, ...]


@dataclass(frozen=True)
class LowCeiling:
    """Measures whose own errors hide a part of the correlation."""

    measures: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class LeftOut:
    """Trials that are not in the table."""

    count: int
    planned: int
    reason: str  # of most of them
    reasons: int
    rows: bool = False  # of a file, rather than trials of a plan


@dataclass(frozen=True)
class RefusedMeasure:
    """A measure that networks do not allow."""

    words: str


@dataclass(frozen=True)
class FewNetworks:
    """A table with too few networks for much to be said."""

    count: int


@dataclass(frozen=True)
class FewConfigurations:
    """A table whose many networks are of too few configurations for intervals."""

    count: int
    group: tuple[str, ...]  # columns that tell configurations apart


@dataclass(frozen=True)
class SameDistribution:
    """Two groups whose distributions cannot be told apart, or can."""

    columns: tuple[tuple[str, float], ...]  # with p
    factor: str
    first: str
    second: str


@dataclass(frozen=True)
class Optimal:
    """The best level of a setting that was swept, for each method beside it."""

    setting: str
    score: str
    levels: tuple[tuple[str, Any, Any, Any], ...]  # words, best, lowest, highest
    at_edge: tuple[str, ...]  # words of those at the end of what was tried


@dataclass(frozen=True)
class ChosenOnTest:
    """Best epochs that were chosen on test data."""

    score: str


Finding = (
    BestMeasure
    | AgainstBaseline
    | Together
    | AboveBaseline
    | NoMeasure
    | Simpson
    | NegativeTau
    | LowCeiling
    | LeftOut
    | RefusedMeasure
    | FewNetworks
    | FewConfigurations
    | SameDistribution
    | Optimal
    | ChosenOnTest
)

_CEILING = 0.9  # of tau; measures below it are named


def findings(summary: StudySummary) -> list[Finding]:
    """All findings, the answer first and doubts after it."""
    said: list[Finding] = [*_prediction(summary), *_simpson(summary)]
    said += _optimal(summary)
    if len(summary.table) < FEW:
        said.append(FewNetworks(len(summary.table)))
    elif summary.configurations < FEW_CONFIGURATIONS:
        said.append(FewConfigurations(summary.configurations, summary.table.group))
    negative = tuple(
        each.name
        for each in summary.measures
        if each.tau.value < 0 and each.tau_p <= ALPHA
    )
    if negative:
        said.append(NegativeTau(negative))
    low = tuple((e.name, e.ceiling) for e in summary.measures if e.ceiling < _CEILING)
    if low:
        said.append(LowCeiling(low))
    said += _splits(summary)
    said += [
        RefusedMeasure(str(each))
        for each in summary.table.refused
        if each.measure in summary.table.measures
    ]
    coverage = summary.coverage
    if coverage.reasons:
        said.append(
            LeftOut(
                coverage.planned - coverage.done,
                coverage.planned,
                coverage.reasons[0].text,
                len(coverage.reasons),
                summary.table.from_file,
            )
        )
    if summary.scores and summary.scores.best_on_test:
        said.append(ChosenOnTest(summary.scores.score))
    return said


def _prediction(summary: StudySummary) -> list[Finding]:
    best, baseline = summary.best_measure, summary.best_baseline
    if best is None:
        return [NoMeasure(_why_none(summary))]
    defined = [each for each in summary.measures if each.tau.is_defined]
    said: list[Finding] = [BestMeasure(best.name, best.tau, len(defined), best.count)]
    if baseline is not None:
        few = len(summary.table) < FEW
        # So few configurations have no interval that can be trusted.
        difference = Bounded(best.difference.value) if few else best.difference
        said.append(
            AgainstBaseline(
                best.name, baseline.name, baseline.tau, difference, _is_clear(best)
            )
        )
        held_out = summary.held_out
        if held_out and held_out.tau.value > abs(baseline.tau.value):
            said.append(Together(held_out.tau))
        if len(defined) > 1 and not few:
            said.append(
                AboveBaseline(
                    sum(_is_clear(e) and e.difference.value > 0 for e in defined),
                    sum(_is_clear(e) and e.difference.value < 0 for e in defined),
                    len(defined),
                )
            )
    return said


def _is_clear(measure: Predictor) -> bool:
    """Whether a measure and the baseline differ beyond noise, among all measures."""
    return measure.difference_p <= ALPHA


def _why_none(summary: StudySummary) -> str:
    if len(summary.table) < 2:
        return f"the table has {len(summary.table) or 'no'} network"
    measured = [each for each in summary.measures if each.count > 1]
    if not measured:
        return "no measure has values for two networks"
    return f"{summary.table.gap} or the measures have one value throughout"


def _simpson(summary: StudySummary) -> list[Finding]:
    """One warning, of the measure with the largest tau; the others are counted."""
    order = {each.name: place for place, each in enumerate(summary.measures)}
    warned = [each for each in summary.within if each.warning]
    warned.sort(key=lambda each: order.get(each.measure, len(order)))
    if not warned:
        return []
    first = warned[0]
    return [Simpson(first.measure, first.factor, first.warning, len(warned) - 1)]


def _optimal(summary: StudySummary) -> list[Finding]:
    if not summary.optima:
        return []
    named = [(", ".join(each.words), each.optimum) for each in summary.optima]
    return [
        Optimal(
            setting=summary.optima[0].optimum.setting,
            score=summary.optima[0].score,
            levels=tuple((w, each.best, each.low, each.high) for w, each in named),
            at_edge=tuple(words for words, each in named if each.at_edge),
        )
    ]


def _splits(summary: StudySummary) -> list[Finding]:
    grouped: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    for each in summary.splits:
        # Levels of other factors are compared in the table of splits.
        if {each.first, each.second} != set(ADAPTIVE_WORDS):
            continue
        key = (each.factor, each.first, each.second)
        grouped.setdefault(key, []).append((each.column, each.adjusted_p))
    return [SameDistribution(tuple(tests), *key) for key, tests in grouped.items()]
