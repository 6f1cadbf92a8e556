"""One sentence to the question: flatter, better, worth it?"""

from __future__ import annotations

from steppe_lab.reports.comparison.findings import (
    Answer,
    Flatness,
    HardlyLearnt,
    NoAnswer,
    Verdict,
)
from steppe_lab.reports.comparison.quantities import HEADLINE
from steppe_lab.reports.comparison.summary import Change, Summary
from steppe_lab.reports.text.numbers import listed, number, percent, points


def answer(finding: Answer) -> str:
    """The answer in one sentence that begins with "In short"."""
    if isinstance(finding, NoAnswer):
        return f"In short: {_NO_ANSWER[finding.reason].format(first=finding.first)}"
    return f"In short: {'; '.join(map(verdict, finding.verdicts))}."


_NO_ANSWER = {
    "no runs": "there is nothing to compare.",
    "one optimizer": "there is one optimizer, so there is nothing to compare it with.",
    "no pairs": "there is nothing to compare with {first}.",
    "one seed": "nothing can be told from one seed; run at least three.",
}


def verdict(finding: Verdict) -> str:
    """The verdict on one optimizer, without a full stop."""
    name, change = finding.optimizer, finding.change
    if change is None or change.interval.count < 2:
        return f"of {name} too few runs finished to tell"
    start, error = f"{name} {_flat(finding)}", finding.quantity.phrase
    size = _size(change, finding.first)
    stops = " (most of it by when training stops)" if finding.stopping else ""
    price = finding.price
    if not change.clear:
        end = f"its {error} is within noise of {finding.first}'s"
        if change.alone:
            among = f"among {change.among} comparisons"
            end = f"its {error} is not clear of {finding.first}'s {among}"
        pays = (
            "so it does not pay here" if price > 1 else "at " + times_the_price(price)
        )
        return f"{start}, and {end}, {pays}"
    end = f"its {error} is {size}{stops}"
    if change.lower != (finding.quantity.better == "smaller"):
        return f"{start}, and {end}: it does not pay here"
    if price <= 1:
        return f"{start}, and {end} at {times_the_price(price)}: it pays here"
    budget = f"a budget that {finding.first} was not given"
    return f"{start}, and {end} for {times_the_price(price)}, {budget}"


def unlearnt(finding: HardlyLearnt) -> str:
    """That an optimizer has hardly learnt, to stand after its name."""
    phrase, share = finding.quantity.phrase, finding.share
    return f"has hardly learnt ({phrase} {percent(share)})"


def allowing(summary: Summary) -> str:
    """The number of comparisons that verdicts allow for, after a comma; "" for one."""
    measured = [q.key for q in summary.quantities if q.flatness][:1]
    counts = {
        "of flatness": sum(map(summary.comparisons, measured)),
        f"of {summary.quantity(HEADLINE).phrase}": summary.comparisons(HEADLINE),
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


def _size(change: Change, first: str) -> str:
    """How much a headline differs, to stand after "is"."""
    mean, side = change.interval.mean, "lower" if change.lower else "higher"
    if change.scale == "ratio":
        return f"{number(mean, 2)} {'of' if mean < 1 else 'times'} {first}'s"
    size = f"{points(abs(mean))} points" if change.share else number(abs(mean))
    return f"{size} {side}"


def _flat(finding: Verdict) -> str:
    sides, first = finding.flatness, finding.first
    for each in finding.unlearnt[:1]:
        if each.optimizer == finding.optimizer:
            return f"{unlearnt(each)}, so its flatness says nothing"
        hardly = f"{first} {unlearnt(each)}"
        return f"cannot be compared with {first} by flatness, as {hardly}"
    if not sides.compared:
        return "was not measured for flatness"
    if not (sides.flatter or sides.sharper):
        return f"cannot be told from {first} by flatness"
    if sides.flatter and sides.sharper:
        return "is flatter by some measures and sharper by others"
    return _one_sided(sides, matched=finding.matched)


def _one_sided(sides: Flatness, *, matched: bool) -> str:
    """Measures that agree beyond noise, with caveats in brackets."""
    clear = [*sides.flatter, *sides.sharper]
    word = "flatter" if sides.flatter else "sharper"
    titles = [quantity.title for quantity in clear]
    text = f"is {word} by {_how_many(titles, sides.compared)}"
    caveats = [listed(titles)] if len(clear) < sides.compared else []
    if sides.unconverged:
        doubtful = listed([quantity.title for quantity in sides.unconverged])
        caveats.append(f"of which {doubtful} did not converge in every run")
    if not matched:
        caveats.append("not at matched train loss")
    return f"{text} ({', '.join(caveats)})" if caveats else text


def _how_many(titles: list[str], compared: int) -> str:
    if len(titles) < compared:
        return f"{len(titles)} of {compared} measures"
    every = {1: titles[0], 2: "both measures"}
    return every.get(compared, f"all {compared} measures")
