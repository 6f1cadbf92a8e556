"""The short answer: flatter, better, and what to mind, each in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from steppe_lab.reports.comparison.findings import (
    Answer,
    DoubtfulEstimates,
    Flatness,
    HardlyLearnt,
    NoAnswer,
    OtherDifferences,
    UnfinishedRuns,
    Verdict,
    Verdicts,
)
from steppe_lab.reports.comparison.quantities import HEADLINE
from steppe_lab.reports.comparison.summary import WORTH, Change, Summary
from steppe_lab.reports.text.numbers import (
    listed,
    one_or_more,
    percent,
    with_ends,
)

FEW = 3  # optimizers whose numbers a sentence can hold


def answer(finding: Answer) -> str:
    """The answer as one text that begins with "In short"."""
    first, *others = answer_sentences(finding)
    return " ".join([f"In short: {first}", *others])


def answer_sentences(finding: Answer) -> list[str]:
    """At most three sentences: flatness, gains, and what to mind."""
    if isinstance(finding, NoAnswer):
        return [_NO_ANSWER[finding.reason].format(first=finding.first)]
    # An optimizer with one pair of runs has numbers, but no interval to judge them by.
    known = [v for v in finding.verdicts if _is_known(v)]
    few = [v.optimizer for v in finding.verdicts if not _is_known(v)]
    flat = [(v.optimizer, _flatness(v)) for v in known]
    flat += [(name, _Predicate("has", "too few finished runs to tell")) for name in few]
    sentences = [f"{_joined(flat)}.", f"{_gains(known)}."] if known else []
    caveats = _caveats(finding)
    return [*sentences, f"Mind that {'; '.join(caveats)}."] if caveats else sentences


_NO_ANSWER = {
    "no runs": "there is nothing to compare.",
    "one optimizer": "there is one optimizer, so there is nothing to compare it with.",
    "no pairs": "there is nothing to compare with {first}.",
    "one seed": "nothing can be told from one seed; run at least three.",
}


def unlearnt(finding: HardlyLearnt) -> str:
    """That an optimizer has hardly learnt, to stand after its name."""
    title, share = finding.quantity.title, finding.share
    return f"has hardly learnt ({title} {percent(share)})"


def allowing(summary: Summary) -> str:
    """The number of comparisons that verdicts allow for, after a comma; "" for one."""
    measured = [q.key for q in summary.quantities if q.flatness][:1]
    counts = {
        "of flatness": sum(map(summary.comparisons, measured)),
        f"of {summary.quantity(HEADLINE).title}": summary.comparisons(HEADLINE),
    }
    pieces = [f"{n} comparisons {kind}" for kind, n in counts.items() if n > 1]
    return f", allowing for {listed(pieces)}" if pieces else ""


def times_the_price(price: float) -> str:
    """A price in words.

    Example:
        >>> times_the_price(2.0), times_the_price(3.0), times_the_price(0.5)
        ('twice the price', '3 times the price', 'half the price')
    """
    words = {1.0: "the same price", 2.0: "twice the price", 0.5: "half the price"}
    return words.get(price, f"{price:.3g} times the price")


@dataclass(frozen=True)
class _Predicate:
    """The end of a sentence about one optimizer or several that share it."""

    verb: str  # of one
    text: str

    def about(self, names: list[str]) -> str:
        plural = {"is": "are", "has": "have", "was": "were"}
        verb = self.verb if len(names) == 1 else plural[self.verb]
        return f"{listed(names)} {verb} {self.text}"


def _joined(predicates: Sequence[tuple[str, _Predicate]]) -> str:
    """One clause for each predicate, in the order of its first optimizer."""
    names: dict[_Predicate, list[str]] = {}
    for name, predicate in predicates:
        names.setdefault(predicate, []).append(name)
    return "; ".join(predicate.about(who) for predicate, who in names.items())


def _is_known(finding: Verdict) -> bool:
    return finding.change is not None and finding.change.interval.count > 1


def _flatness(finding: Verdict) -> _Predicate:
    sides, first = finding.flatness, finding.first
    # Its own failure to learn says more than that of the first one.
    for each in finding.unlearnt[:1]:
        hardly = unlearnt(each).removeprefix("has ")
        if each.optimizer == finding.optimizer:
            return _Predicate("has", f"{hardly}, so flatness says nothing")
        return _Predicate(
            "is", f"not comparable with {first} by flatness, as {first} has {hardly}"
        )
    if not sides.compared:
        return _Predicate("was", "not measured for flatness")
    if not (sides.flatter or sides.sharper):
        return _Predicate(
            "is", f"neither flatter nor sharper than {first} beyond noise"
        )
    if sides.flatter and sides.sharper:
        return _Predicate(
            "is", f"flatter than {first} by some measures and sharper by others"
        )
    return _Predicate("is", _one_sided(sides, first))


def _one_sided(sides: Flatness, first: str) -> str:
    """Measures that agree beyond noise; named where they are not all."""
    clear = [quantity.title for quantity in (*sides.flatter, *sides.sharper)]
    word = "flatter" if sides.flatter else "sharper"
    if len(clear) == sides.compared:
        every = {1: clear[0], 2: "both measures"}
        by = every.get(sides.compared, f"all {sides.compared} measures")
        return f"{word} than {first} by {by}"
    count = f"{len(clear)} of {sides.compared} measures"
    return f"{word} than {first} by {count} ({listed(clear)})"


def _gains(known: Sequence[Verdict]) -> str:
    """Gains, losses and what stays open, as one sentence without its full stop."""
    title, first = known[0].quantity.title, known[0].first
    clauses = [_clear(v, v.change) for v in known if v.change and v.change.clear]
    unclear = [v for v in known if v.change and not v.change.clear]
    excluded = [v for v in unclear if v.gain == "none"]
    if excluded:
        verb = "does" if len(excluded) == 1 else "do"
        clauses.append(
            f"{_numbered(excluded)} {verb} not pay here, as a gain in {title} of "
            f"{100 * WORTH:g} % of {first}'s or more is excluded"
        )
    still_open = [v for v in unclear if v.gain == "open"]
    if still_open:
        no = "no" if clauses else "No"
        names = _numbered(still_open)
        clauses.append(f"{no} gain in {title} over {first} could be shown for {names}")
    return "; ".join(clauses)


def _clear(finding: Verdict, change: Change) -> str:
    """A gain or a loss beyond noise, with its price."""
    name, first = finding.optimizer, finding.first
    stops = " (most of it by when training stops)" if finding.stopping else ""
    text = f"{name}'s {finding.quantity.title} is {_size(change, first)}{stops}"
    if finding.gain == "none":
        return f"{text}: it does not pay here"
    price = times_the_price(finding.price)
    # At a higher price it would have to beat the first one trained for as long.
    if finding.price <= 1:
        return f"{text} at {price}: it pays here"
    return f"{text} for {price}, a budget that {first} was not given"


def _size(change: Change, first: str) -> str:
    """How much a headline differs with its interval, to stand after "is"."""
    side = "lower" if change.lower else "higher"
    sign = -1 if change.lower and change.scale == "difference" else 1
    ends = with_ends(change.interval, none=change.none, share=change.share, sign=sign)
    over = f"95 % interval {ends.both}"
    over = f"for all {change.interval.count} seeds" if change.agreed else over
    if change.scale == "ratio":
        word = "of" if change.lower else "times"
        return f"{ends.mean} {word} {first}'s ({over})"
    size = f"{ends.mean} points" if change.share else ends.mean
    return f"{size} {side} than {first}'s ({over})"


def _numbered(findings: Sequence[Verdict]) -> str:
    """Names, with differences and prices where they are few."""
    if len(findings) > FEW:
        return listed([finding.optimizer for finding in findings])
    return listed(
        [f"{v.optimizer} ({_numbers(v, v.change)})" for v in findings if v.change]
    )


def _numbers(finding: Verdict, change: Change) -> str:
    ends = with_ends(change.interval, none=change.none, share=change.share)
    price = f"at {times_the_price(finding.price)}"
    if change.agreed:
        same = f"the same for all {change.interval.count} seeds"
        return f"{same}, {price}"
    points = " points" if change.share else ""
    size = f"difference {ends.mean}{points}"
    size = f"× {ends.mean}" if change.scale == "ratio" else size
    alone = f", not clear among {change.among} comparisons" if change.alone else ""
    return f"{size}, 95 % interval {ends.both}{alone}, {price}"


def _caveats(finding: Verdicts) -> list[str]:
    """What to mind, as clauses after "Mind that"."""
    judged = [v for v in finding.verdicts if v.flatness.flatter or v.flatness.sharper]
    judged = [v for v in judged if not v.unlearnt]
    # Only a verdict that rests on a measure needs the warning about it.
    apart = [v.optimizer for v in judged if not v.matched]
    rough = dict.fromkeys(q.title for v in judged for q in v.flatness.unconverged)
    clauses = []
    if apart:
        losses = "train loss" if len(apart) == 1 else "train losses"
        verb = "does" if len(apart) == 1 else "do"
        clauses.append(
            f"the {losses} of {listed(apart)} {verb} not match {judged[0].first}'s, "
            "and curvature shrinks with the loss"
        )
    if rough:
        clauses.append(f"{listed(list(rough))} did not converge in every run")
    for caveat in finding.caveats:
        match caveat:
            case OtherDifferences():
                clauses.append("more than the method differs")
            case DoubtfulEstimates() if not rough:
                clauses.append("not every estimate can be trusted")
            case UnfinishedRuns():
                missing = caveat.planned - caveat.finished
                clauses.append(
                    f"{missing} of {one_or_more(caveat.planned, 'run')} did not finish"
                )
            case _:
                pass
    return clauses
