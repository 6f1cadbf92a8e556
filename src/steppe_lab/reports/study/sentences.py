"""Findings of a study in plain words."""

from __future__ import annotations

import re
from typing import assert_never

from steppe_lab.reports.study.findings import (
    AboveBaseline,
    AgainstBaseline,
    BestMeasure,
    ChosenOnTest,
    FewConfigurations,
    FewNetworks,
    Finding,
    LeftOut,
    LowCeiling,
    NegativeTau,
    NoMeasure,
    Optimal,
    RefusedMeasure,
    SameDistribution,
    Simpson,
    Together,
    findings,
)
from steppe_lab.reports.study.results import Bounded, StudySummary
from steppe_lab.reports.study.tables import MINUS, ends_text, tau_text
from steppe_lab.reports.text.numbers import listed, number, one_or_more

_NAMED = 4  # measures in a sentence, at most
_HYPHEN = re.compile(r"(?<![\w.-])-(?=\d)")  # before a number, not in a name


def answer(summary: StudySummary) -> list[str]:
    """Sentences about a study, the most important first."""
    return [sentence(each) for each in findings(summary)]


def sentence(finding: Finding) -> str:
    """One finding."""
    match finding:
        case BestMeasure():
            return _best(finding)
        case AgainstBaseline():
            return _against(finding)
        case Together():
            return (
                f"All hyper-parameters together have {_with_ends(finding.tau)}, by an "
                "additive model on pairs of configurations it was not fitted to."
            )
        case AboveBaseline():
            return _above(finding)
        case NoMeasure():
            return f"No measure has a correlation with the gap: {finding.why}."
        case Simpson():
            return _simpson(finding)
        case NegativeTau():
            return (
                f"The gap falls as {_some(finding.measures)} "
                f"{'rises' if len(finding.measures) == 1 else 'rise'}, beyond noise, "
                "where a measure of sharpness is meant to rise with the gap."
            )
        case LowCeiling():
            return _low_ceiling(finding)
        case LeftOut():
            return _left_out(finding)
        case RefusedMeasure():
            return f"{finding.words}."
        case FewNetworks():
            return (
                f"The table has {one_or_more(finding.count, 'network')}: with so few, "
                "large correlations come about by chance."
            )
        case FewConfigurations():
            return (
                "Intervals are for new configurations, and the table has "
                f"{one_or_more(finding.count, 'configuration')} by "
                f"{listed(list(finding.group))}: too few for narrow ones."
            )
        case SameDistribution():
            return _same(finding)
        case Optimal():
            return _optimal(finding)
        case ChosenOnTest():
            return (
                f"The best epoch was chosen on the test data of {finding.score} "
                "itself, so that best scores are too good; read those of the last "
                "epoch."
            )
        case _:
            assert_never(finding)


def _best(finding: BestMeasure) -> str:
    noise = "" if finding.tau.excludes(0.0) else ", which noise alone may explain"
    among = f" among {finding.among} measures" if finding.among > 1 else ""
    has = f"has the largest τ with the gap{among}" if among else "has τ with the gap"
    return (
        f"{finding.measure} {has}, {_with_ends(finding.tau)}, over "
        f"{finding.networks:,} networks{noise}."
    )


def _against(finding: AgainstBaseline) -> str:
    tau = _with_ends(finding.baseline_tau)
    if finding.baseline_tau.value < 0:
        tau = f"{tau}, that is {tau_text(-finding.baseline_tau.value)} turned round"
        tau += " (the direction of a baseline is fitted, that of a measure is given)"
    tau = f"{finding.baseline}, which needs no measurement, has {tau}"
    gap = finding.difference
    if not gap.is_defined:
        return f"The baseline {tau}."
    if gap.low > 0 and finding.clear:
        said = f"{finding.measure} is above it by {_with_ends(gap)}"
    elif gap.high < 0 and finding.clear:
        below = Bounded(-gap.value, -gap.high, -gap.low)
        said = f"{finding.measure} is below it by {_with_ends(below)}"
    elif gap.excludes(0.0):
        said = (
            f"the difference, {_with_ends(gap)}, is within noise once all measures are "
            "allowed for (Holm)"
        )
    else:
        said = (
            f"the difference, {_with_ends(gap)}, does not tell which of them predicts "
            "the gap better"
        )
    return f"The baseline {tau}; {said}."


def _above(finding: AboveBaseline) -> str:
    others = finding.among - finding.above - finding.below
    return (
        f"Of {finding.among} measures, {finding.above} "
        f"{'is' if finding.above == 1 else 'are'} above the best baseline beyond "
        f"noise, {finding.below} below it, and {others} on neither side, allowing for "
        "all of them (Holm)."
    )


def _simpson(finding: Simpson) -> str:
    said = finding.warning.replace("paradox:", f"paradox in {finding.measure}:", 1)
    said = _HYPHEN.sub(MINUS, said)
    if not finding.others:
        return said
    further = one_or_more(finding.others, "further pair")
    return f"{said} There is a warning for {further} of measure and factor too."


def _low_ceiling(finding: LowCeiling) -> str:
    names = _some([name for name, _ in finding.measures])
    ends = sorted({tau_text(ceiling, 2) for _, ceiling in finding.measures})
    span = " to ".join(dict.fromkeys((ends[0], ends[-1])))
    return (
        f"The standard errors of {names} leave a τ of {span} at most; more draws would "
        "raise it."
    )


def _left_out(finding: LeftOut) -> str:
    most = "most of them" if finding.reasons > 1 else "reason"
    left_out = "rows are not used" if finding.rows else "trials are not in the table"
    return (
        f"{finding.count:,} of {finding.planned:,} {left_out} "
        f"({most}: {finding.reason})."
    )


def _same(finding: SameDistribution) -> str:
    tests = [f"{column} p = {number(p, 2)}" for column, p in finding.columns]
    return (
        f"Kolmogorov-Smirnov tests of {finding.first} against {finding.second} "
        f"({finding.factor}), allowing for all of them (Holm): {_some(tests)}."
    )


def _optimal(finding: Optimal) -> str:
    said = [
        f"{f'{words}: ' if words else ''}{best} "
        + ("alone" if low == high else f"({low} to {high})")
        for words, best, low, high in finding.levels
    ]
    edge = ""
    if finding.at_edge:
        of = f" of {_some(finding.at_edge)}" if any(finding.at_edge) else ""
        edge = f" That{of} lies at the edge of what was tried; try levels beyond it."
    return (
        f"Best {finding.setting} by {finding.score}, and where the truly best one lies "
        f"with 95 %: {'; '.join(said[:_NAMED])}.{edge}"
    )


def _with_ends(bounded: Bounded) -> str:
    ends = ends_text(bounded)
    return f"{tau_text(bounded.value)} {ends}" if ends else tau_text(bounded.value)


def _some(names: tuple[str, ...] | list[str]) -> str:
    shown = list(names[:_NAMED])
    more = len(names) - _NAMED
    return listed([*shown, f"{more} more"] if more > 0 else shown)
