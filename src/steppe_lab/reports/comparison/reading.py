"""What a comparison found, in plain words and with its doubts."""

from __future__ import annotations

import math
from collections.abc import Callable

from steppe_lab.reports.comparison.answer import (
    answer,
    by_stopping,
    times_the_price,
    unlearnt,
    verdict,
)
from steppe_lab.reports.comparison.quantities import (
    BEST,
    HEADLINE,
    TRAIN_HEADLINE,
    TRAIN_LOSS,
    Quantity,
)
from steppe_lab.reports.comparison.summary import (
    APART,
    MATCHED,
    Change,
    Summary,
    Versus,
)
from steppe_lab.reports.text.numbers import (
    listed,
    mean_of,
    number,
    one_or_more,
    percent,
    points,
)


def reading(summary: Summary) -> list[str]:
    """Sentences about every optimizer, about doubts, and last the answer."""
    if not summary.finished:
        return [*_failures(summary), answer(summary)]
    told = [*_unlearnt(summary), _headline(summary), *_one_seed(summary)]
    for versus in summary.versus:
        told += _error(summary, versus)
        told += _flatness(summary, versus)
        told += _cost(summary, versus)
    told += _unlike(summary)
    told += _unmatched(summary)
    told += _doubts(summary)
    told += _failures(summary)
    return [*told, answer(summary)]


def _unlearnt(summary: Summary) -> list[str]:
    told = {line.optimizer: unlearnt(summary, line.optimizer) for line in summary.lines}
    return [
        f"{name} {text}, so its flatness says nothing."
        for name, text in told.items()
        if text
    ]


def _headline(summary: Summary) -> str:
    quantity = summary.quantity(HEADLINE)
    mean = summary.line(summary.first).cells[HEADLINE].mean
    if mean is None:
        return (
            f"{summary.first} has no finished run, so there is nothing to compare the "
            "others with."
        )
    over = f"mean and 95 % interval over {mean.count} seeds"
    over = over if mean.count > 1 else "one seed"
    value = mean_of(mean, quantity.share)
    return f"{summary.first}'s {quantity.phrase} is {value} ({over})."


def _one_seed(summary: Summary) -> list[str]:
    counts = [len(line.cells[HEADLINE].values) for line in summary.lines]
    if len(counts) < 2 or max(counts) > 1:
        return []
    return [
        "Every optimizer was run with one seed, and from one seed nothing can be told: "
        "the differences below may be noise alone."
    ]


def _error(summary: Summary, versus: Versus) -> list[str]:
    found = versus.changes.get(HEADLINE)
    name, first = versus.optimizer, summary.first
    phrase = summary.quantity(HEADLINE).phrase
    mean = summary.line(name).cells[HEADLINE].mean
    if mean is None:
        return [f"{name} has no finished run."]
    start = f"{name}'s {phrase} is {percent(mean.mean)}"
    if found is None:
        return [f"{start}; it shares no finished seed with {first}."]
    return [f"{start}, {_gap(found, first)}.", *_best_epoch(summary, versus)]


def _gap(found: Change, first: str, *, brief: bool = False) -> str:
    """A difference of errors, in points."""
    gap = found.interval
    if found.noise:
        doubt = _doubt(found, points, brief=brief)
        return (
            f"within noise of {first}'s (difference {points(gap.mean)} points{doubt})"
        )
    sign, side = (-1, "below") if found.lower else (1, "above")
    doubt = _doubt(found, points, brief=brief, sign=sign)
    return f"{points(abs(gap.mean))} points {side} {first}'s{_brackets(doubt)}"


def _best_epoch(summary: Summary, versus: Versus) -> list[str]:
    mean = summary.line(versus.optimizer).cells[BEST].mean
    if mean is None or not by_stopping(versus):
        return []
    best = summary.quantity(BEST)
    gap = _gap(versus.changes[BEST], summary.first, brief=True)
    return [
        f"{versus.optimizer}'s {best.phrase} ({best.note}) is {percent(mean.mean)}, "
        f"{gap}: most of the difference is in when training stops."
    ]


def _flatness(summary: Summary, versus: Versus) -> list[str]:
    pieces: list[str] = []
    if not versus.learnt:
        return []
    for quantity in summary.quantities:
        change = versus.changes.get(quantity.key)
        if quantity.flatness and change is not None:
            whose = "its" if pieces else f"{versus.optimizer}'s"
            text = _compared(change, summary.first, brief=bool(pieces))
            pieces.append(f"{whose} {quantity.phrase} is {text}")
    told = [f"{listed(pieces)}."] if pieces else []
    found = verdict(summary, versus)
    if found.flatter and found.sharper:
        told.append(
            f"The measures disagree about {versus.optimizer}: it is flatter than "
            f"{summary.first} by {_titles(found.flatter)}, and sharper by "
            f"{_titles(found.sharper)}."
        )
    return told


def _compared(found: Change, first: str, *, brief: bool) -> str:
    """A ratio, or a difference where there is none."""
    mean = found.interval.mean
    if found.scale == "ratio":
        doubt = _doubt(found, _ratio, brief=brief)
        if found.noise:
            return f"within noise of {first}'s ({_ratio(mean)} times{doubt})"
        times = f"{_ratio(mean)} {'of' if mean < 1 else 'times'}"
        return f"{times} {first}'s{_brackets(doubt)}"
    if found.noise:
        doubt = _doubt(found, number, brief=brief)
        return f"within noise of {first}'s (difference {number(mean)}{doubt})"
    sign, side = (-1, "below") if found.lower else (1, "above")
    doubt = _doubt(found, number, brief=brief, sign=sign)
    return f"{number(abs(mean))} {side} {first}'s{_brackets(doubt)}"


def _cost(summary: Summary, versus: Versus) -> list[str]:
    gradients = summary.line(versus.optimizer).gradients
    if gradients is None or versus.price is None:
        return []
    each = f"Each step of {versus.optimizer} costs {_plain(gradients, 'gradient')}"
    if versus.price == 1:
        return [f"{each}, the same as {summary.first}'s."]
    price = times_the_price(versus.price)
    return [f"{each}, so it trains for {price} of {summary.first} at equal epochs."]


def _unlike(summary: Summary) -> list[str]:
    if not summary.unlike:
        return []
    return [f"More than the method differs: {'; '.join(summary.unlike)}."]


def _unmatched(summary: Summary) -> list[str]:
    pieces: list[str] = []
    lower: list[str] = []
    for versus in summary.versus:
        found = versus.changes.get(TRAIN_LOSS)
        if found is None or versus.matched or not versus.learnt:
            continue
        told = f"{number(found.interval.mean)} above"
        if found.scale == "ratio":
            told = f"{_ratio(found.interval.mean)} times"
        doubt = _brackets(_doubt(found, _ratio, brief=bool(pieces)))
        pieces.append(
            f"{versus.optimizer}'s train loss is {told} {summary.first}'s{doubt}"
            + _apart(versus)
        )
        lower += [versus.optimizer] if found.lower else []
    if not pieces:
        return []
    return [
        f"{listed(pieces)}: the measures of flatness are not compared at matched train "
        f"loss (surely within a factor of {MATCHED:g}, with train errors within "
        f"{100 * APART:g} points).",
        "Mind that near zero loss curvature shrinks with the loss itself, which "
        f"favours the lower train loss, here {listed(lower or [summary.first])}'s; "
        "training less far can make any optimizer look flatter, too.",
    ]


def _apart(versus: Versus) -> str:
    """Train errors that are too far apart."""
    error = versus.changes.get(TRAIN_HEADLINE)
    gap = error.interval.mean if error is not None else 0.0
    if abs(gap) <= APART:
        return ""
    side = "below" if gap < 0 else "above"
    return f" and its train error {points(abs(gap))} points {side}"


def _doubts(summary: Summary) -> list[str]:
    if not summary.doubts:
        return []
    return [f"Not every estimate can be trusted: {'; '.join(summary.doubts)}."]


def _failures(summary: Summary) -> list[str]:
    missing, reasons = summary.planned - summary.finished, "; ".join(summary.failures)
    told = f" ({reasons})" if reasons else ""
    if not missing:
        return []
    if not summary.finished:
        runs = one_or_more(summary.planned, "run")
        return [f"None of {runs} finished{told}."]
    verb = "is" if missing == 1 else "are"
    return [
        f"{missing} of {one_or_more(summary.planned, 'run')} did not finish and {verb} "
        f"left out{told}."
    ]


def _doubt(
    found: Change, show: Callable[[float], str], *, brief: bool = False, sign: int = 1
) -> str:
    """The interval, after a comma; what others have said is left out if brief."""
    interval = found.interval
    if interval.count < 2:
        return "" if brief else ", one seed, so no interval"
    low, high = sorted((sign * interval.low, sign * interval.high))
    ends = f"{show(low)} to {show(high)}"
    over = f"{interval.count} seeds"
    over += f" and {interval.samples:,} samples" if interval.samples else ""
    told = f", {ends}" if brief else f", 95 % interval {ends}, {over}"
    return told + (f", not clear among {found.among}" if found.alone else "")


def _brackets(doubt: str) -> str:
    return f" ({doubt[2:]})" if doubt else ""


def _titles(found: tuple[Quantity, ...]) -> str:
    return listed([quantity.title for quantity in found])


def _ratio(value: float) -> str:
    return number(value, 2) if math.isfinite(value) else "any"


def _plain(count: float, noun: str) -> str:
    return f"{count:.3g} {noun}" + ("" if count == 1 else "s")
