"""Findings of a comparison in plain words, with their doubts."""

from __future__ import annotations

from typing import assert_never

from steppe_lab.reports.comparison.answer import answer, times_the_price, unlearnt
from steppe_lab.reports.comparison.findings import (
    BestEpochChange,
    Disagreement,
    DoubtfulEstimates,
    Finding,
    FlatnessChanges,
    HardlyLearnt,
    Headline,
    HeadlineChange,
    OtherDifferences,
    SingleSeed,
    StepCost,
    TrainLossGap,
    UnequalLengths,
    UnfinishedRuns,
    Unmatched,
    answer_of,
    findings,
)
from steppe_lab.reports.comparison.quantities import Quantity
from steppe_lab.reports.comparison.summary import APART, MATCHED, Change, Summary
from steppe_lab.reports.text.numbers import (
    Ends,
    listed,
    mean_of,
    number,
    one_or_more,
    percent,
    points,
    with_ends,
)
from steppe_lab.statistics.intervals import Interval


def reading(summary: Summary) -> list[str]:
    """Sentences about every optimizer, about doubts, and last the answer."""
    said = [text for finding in findings(summary) for text in sentences(finding)]
    return [*said, answer(answer_of(summary))]


def sentences(finding: Finding) -> list[str]:
    """One finding in one sentence, or two."""
    match finding:
        case HardlyLearnt():
            name = finding.optimizer
            return [f"{name} {unlearnt(finding)}, so its flatness says nothing."]
        case Headline():
            return [_headline(finding)]
        case SingleSeed():
            return [
                "Every optimizer was run with one seed, and from one seed nothing can "
                "be told: the differences below may be noise alone."
            ]
        case HeadlineChange():
            return [_headline_change(finding)]
        case BestEpochChange():
            return [_best_epoch(finding)]
        case FlatnessChanges():
            return [_flatness(finding)]
        case Disagreement():
            return [
                f"The measures disagree about {finding.optimizer}: it is flatter than "
                f"{finding.first} by {_titles(finding.flatter)}, and sharper by "
                f"{_titles(finding.sharper)}."
            ]
        case StepCost():
            return [_cost(finding)]
        case OtherDifferences():
            return [f"More than the method differs: {'; '.join(finding.differences)}."]
        case UnequalLengths():
            lengths = [f"{name} after {span(e)}" for name, e in finding.epochs]
            return [
                "Rules ended trainings, so that networks are compared where each "
                f"ended and not at equal epochs: {listed(lengths)}."
            ]
        case Unmatched():
            return _unmatched(finding)
        case DoubtfulEstimates():
            doubts = "; ".join(finding.estimates)
            return [f"Not every estimate can be trusted: {doubts}."]
        case UnfinishedRuns():
            return [_unfinished(finding)]
        case _:
            assert_never(finding)


def _headline(finding: Headline) -> str:
    name, quantity, mean = finding.optimizer, finding.quantity, finding.mean
    if mean is None:
        return (
            f"{name} has no finished run, so there is nothing to compare the "
            "others with."
        )
    over = f"mean and 95 % interval over {mean.count} seeds"
    over += f" and {mean.samples:,} samples" if mean.samples else ""
    over = over if mean.count > 1 else "one seed"
    return f"{name}'s {quantity.title} is {mean_of(mean, quantity.share)} ({over})."


def _headline_change(finding: HeadlineChange) -> str:
    name, mean, first = finding.optimizer, finding.mean, finding.first
    if mean is None:
        return f"{name} has no finished run."
    start = f"{name}'s {finding.quantity.title} is {_shown(finding.quantity, mean)}"
    if finding.change is None:
        return f"{start}; it shares no finished seed with {first}."
    return f"{start}, {_gap(finding.change, first)}."


def _best_epoch(finding: BestEpochChange) -> str:
    best = finding.quantity
    gap = _gap(finding.change, finding.first, brief=True)
    return (
        f"{finding.optimizer}'s {best.title} ({best.note}) is "
        f"{_shown(best, finding.mean)}, {gap}: most of the difference is in when "
        "training stops."
    )


def _shown(quantity: Quantity, mean: Interval) -> str:
    return percent(mean.mean) if quantity.share else number(mean.mean)


def _gap(change: Change, first: str, *, brief: bool = False) -> str:
    """A difference of shares, in points; other metrics as measures are compared."""
    if not change.share:
        return _compared(change, first, brief=brief)
    if change.agreed and change.interval.mean == change.none:
        return f"the same as {first}'s for all {change.interval.count} seeds"
    sign = -1 if change.lower and not change.noise else 1
    mean, doubt = _texts(change, sign).mean, _doubt(change, brief=brief, sign=sign)
    if change.noise:
        return f"within noise of {first}'s (difference {mean} points{doubt})"
    side = "below" if change.lower else "above"
    return f"{mean} points {side} {first}'s{_brackets(doubt)}"


def _flatness(finding: FlatnessChanges) -> str:
    pieces: list[str] = []
    for quantity, change in finding.changes:
        # Only the first piece names the optimizer and counts seeds: it is one sentence.
        whose = "its" if pieces else f"{finding.optimizer}'s"
        text = _compared(change, finding.first, brief=bool(pieces))
        pieces.append(f"{whose} {quantity.title} is {text}")
    return f"{listed(pieces)}."


def _compared(change: Change, first: str, *, brief: bool) -> str:
    """A ratio, or a difference where there is none."""
    if change.agreed and change.interval.mean == change.none:
        return f"the same as {first}'s for all {change.interval.count} seeds"
    ratio = change.scale == "ratio"
    sign = -1 if change.lower and not (change.noise or ratio) else 1
    mean, doubt = _texts(change, sign).mean, _doubt(change, brief=brief, sign=sign)
    if change.noise:
        size = f"{mean} times" if ratio else f"difference {mean}"
        return f"within noise of {first}'s ({size}{doubt})"
    if ratio:
        times = "of" if change.lower else "times"
        return f"{mean} {times} {first}'s{_brackets(doubt)}"
    side = "below" if change.lower else "above"
    return f"{mean} {side} {first}'s{_brackets(doubt)}"


def ends(summary: Summary) -> list[str]:
    """Epochs after which networks of each optimizer ended; none if no rule ended any.

    An optimizer of which no network was ended by a rule has a dash.
    """
    spans = [contender.epochs for contender in summary.contenders]
    return ["–" if each is None else span(each) for each in spans] if any(spans) else []


def span(ends: tuple[int, int]) -> str:
    """Two whole numbers, or one where they are equal."""
    low, high = ends
    return str(low) if low == high else f"{low} to {high}"


def _cost(finding: StepCost) -> str:
    gradients = _plain(finding.gradients, "gradient")
    each = f"Each step of {finding.optimizer} costs {gradients}"
    if finding.price == 1:
        return f"{each}, the same as {finding.first}'s."
    price = times_the_price(finding.price)
    return f"{each}, so it trains for {price} of {finding.first} at equal epochs."


def _unmatched(finding: Unmatched) -> list[str]:
    pieces: list[str] = []
    for gap in finding.gaps:
        pieces.append(_train_loss(gap, finding, brief=bool(pieces)))
    lower = [gap.optimizer for gap in finding.gaps if gap.loss.lower]
    train = finding.quantity
    near = f", with {train.title}s within {100 * APART:g} points" if train.share else ""
    return [
        f"{listed(pieces)}: the measures of flatness are not compared at matched train "
        f"loss (surely within a factor of {MATCHED:g}{near}).",
        "Mind that near zero loss curvature shrinks with the loss itself, which "
        f"favours the lower train loss, here {listed(lower or [finding.first])}'s; "
        "training less far can make any optimizer look flatter, too.",
    ]


def _train_loss(gap: TrainLossGap, finding: Unmatched, *, brief: bool) -> str:
    loss, first = gap.loss, finding.first
    mean = _texts(loss).mean
    size = f"{mean} times" if loss.scale == "ratio" else f"{mean} above"
    doubt = _brackets(_doubt(loss, brief=brief))
    text = f"{gap.optimizer}'s train loss is {size} {first}'s{doubt}"
    if abs(gap.error_gap) <= APART:
        return text
    side = "below" if gap.error_gap < 0 else "above"
    size = f"{points(abs(gap.error_gap))} points"
    return f"{text} and its {finding.quantity.title} {size} {side}"


def _unfinished(finding: UnfinishedRuns) -> str:
    planned = one_or_more(finding.planned, "run")
    reasons = "; ".join(finding.reasons)
    why = f" ({reasons})" if reasons else ""
    if not finding.finished:
        return f"None of {planned} finished{why}."
    missing = finding.planned - finding.finished
    verb = "is" if missing == 1 else "are"
    return f"{missing} of {planned} did not finish and {verb} left out{why}."


def _texts(change: Change, sign: int = 1) -> Ends:
    return with_ends(change.interval, none=change.none, share=change.share, sign=sign)


def _doubt(change: Change, *, brief: bool = False, sign: int = 1) -> str:
    """The interval, after a comma; brief where another one of the sentence is full.

    A gap shown without its sign ("below") has its interval turned round as well.
    """
    interval = change.interval
    if interval.count < 2:
        return "" if brief else ", one seed, so no interval"
    if change.agreed:
        return f", for all {interval.count} seeds"
    ends = _texts(change, sign).both
    over = f"{interval.count} seeds"
    over += f" and {interval.samples:,} samples" if interval.samples else ""
    text = f", {ends}" if brief else f", 95 % interval {ends}, {over}"
    return text + (f", not clear among {change.among}" if change.alone else "")


def _brackets(doubt: str) -> str:
    return f" ({doubt[2:]})" if doubt else ""


def _titles(quantities: tuple[Quantity, ...]) -> str:
    return listed([quantity.title for quantity in quantities])


def _plain(count: float, noun: str) -> str:
    return f"{count:.3g} {noun}" + ("" if count == 1 else "s")
