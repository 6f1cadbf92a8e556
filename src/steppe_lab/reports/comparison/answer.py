"""One sentence to the question: flatter, better, worth it?"""

from __future__ import annotations

from dataclasses import dataclass

from steppe_lab.reports.comparison.quantities import (
    BEST,
    HEADLINE,
    TRAIN_HEADLINE,
    Quantity,
)
from steppe_lab.reports.comparison.summary import Summary, Versus
from steppe_lab.reports.text.numbers import listed, percent, points


@dataclass(frozen=True)
class Verdict:
    """What can be told beyond noise of one optimizer against the first."""

    flatter: tuple[Quantity, ...]
    sharper: tuple[Quantity, ...]
    compared: int  # measures of flatness that both have
    unconverged: tuple[Quantity, ...]  # of those flatter or sharper


def verdict(summary: Summary, versus: Versus) -> Verdict:
    """Sort the measures of flatness by what they say beyond noise."""
    sorted_: dict[bool, list[Quantity]] = {True: [], False: []}
    compared, unconverged = 0, []
    for quantity in summary.quantities:
        found = versus.changes.get(quantity.key)
        if not quantity.flatness or found is None:
            continue
        compared += 1
        if found.clear:
            sorted_[found.lower == (quantity.better == "smaller")].append(quantity)
            unconverged += [] if found.converged else [quantity]
    return Verdict(
        tuple(sorted_[True]), tuple(sorted_[False]), compared, tuple(unconverged)
    )


def unlearnt(summary: Summary, optimizer: str) -> str:
    """That an optimizer has hardly learnt, after its name; empty if it has."""
    line = summary.line(optimizer)
    error = line.cells[TRAIN_HEADLINE].mean
    if line.learnt or error is None:
        return ""
    return f"has hardly learnt (train error {percent(error.mean)})"


def allowing(summary: Summary) -> str:
    """For how many comparisons verdicts allow, after a comma; empty for one."""
    measured = [q.key for q in summary.quantities if q.flatness][:1]
    counts = {
        "of flatness": sum(map(summary.comparisons, measured)),
        f"of {summary.quantity(HEADLINE).phrase}": summary.comparisons(HEADLINE),
    }
    told = [f"{n} comparisons {what}" for what, n in counts.items() if n > 1]
    return f", allowing for {listed(told)}" if told else ""


def answer(summary: Summary) -> str:
    """Flatter? Better? Worth it? For every optimizer but the first."""
    if not summary.finished:
        return "In short: there is nothing to compare."
    if len(summary.lines) < 2:
        return (
            "In short: there is one optimizer, so there is nothing to compare it with."
        )
    pairs = [v.changes[HEADLINE].interval.count for v in summary.versus if v.changes]
    if not pairs:
        return f"In short: there is nothing to compare with {summary.first}."
    if max(pairs) < 2:
        return "In short: nothing can be told from one seed; run at least three."
    return f"In short: {'; '.join(answers(summary))}."


def answers(summary: Summary) -> list[str]:
    """What can be told of every optimizer but the first, without a full stop."""
    return [_one(summary, versus) for versus in summary.versus]


def by_stopping(versus: Versus) -> bool:
    """Whether most of a clear difference is gone at the best epochs."""
    last, best = versus.changes.get(HEADLINE), versus.changes.get(BEST)
    if last is None or best is None or not last.clear:
        return False
    return abs(best.interval.mean) < abs(last.interval.mean) / 2


def times_the_price(price: float) -> str:
    """A price in words.

    Example:
        >>> times_the_price(2.0), times_the_price(3.0), times_the_price(0.5)
        ('twice the price', '3 times the price', 'half the price')
    """
    words = {1.0: "the same price", 2.0: "twice the price", 0.5: "half the price"}
    return words.get(price, f"{price:.3g} times the price")


def _one(summary: Summary, versus: Versus) -> str:
    name, found = versus.optimizer, versus.changes.get(HEADLINE)
    if found is None or found.interval.count < 2:
        return f"of {name} too few runs finished to tell"
    flat = _flat(summary, versus)
    error = summary.quantity(HEADLINE).phrase
    size = f"{points(abs(found.interval.mean))} points"
    stops = " (most of it by when training stops)" if by_stopping(versus) else ""
    price = versus.price or 1.0
    if not found.clear:
        end = f"its {error} is within noise of {summary.first}'s"
        if found.alone:
            among = f"among {found.among} comparisons"
            end = f"its {error} is not clear of {summary.first}'s {among}"
        pays = (
            "so it does not pay here" if price > 1 else "at " + times_the_price(price)
        )
        return f"{name} {flat}, and {end}, {pays}"
    if not found.lower:
        end = f"its {error} is {size} higher{stops}"
        return f"{name} {flat}, and {end}: it does not pay here"
    end = f"its {error} is {size} lower{stops}"
    if price <= 1:
        return f"{name} {flat}, and {end} at {times_the_price(price)}: it pays here"
    budget = f"a budget that {summary.first} was not given"
    return f"{name} {flat}, and {end} for {times_the_price(price)}, {budget}"


def _flat(summary: Summary, versus: Versus) -> str:
    found, first = verdict(summary, versus), summary.first
    if told := unlearnt(summary, versus.optimizer):
        return f"{told}, so its flatness says nothing"
    if told := unlearnt(summary, first):
        return f"cannot be compared with {first} by flatness, as {first} {told}"
    if not found.compared:
        return "was not measured for flatness"
    clear = [*found.flatter, *found.sharper]
    if not clear:
        return f"cannot be told from {first} by flatness"
    if found.flatter and found.sharper:
        return "is flatter by some measures and sharper by others"
    word = "flatter" if found.flatter else "sharper"
    text = f"is {word} by {_how_many(clear, found.compared)}"
    few = len(clear) < found.compared
    caveats = [listed([quantity.title for quantity in clear])] if few else []
    if found.unconverged:
        doubtful = listed([quantity.title for quantity in found.unconverged])
        caveats.append(f"of which {doubtful} did not converge in every run")
    if not versus.matched:
        caveats.append("not at matched train loss")
    return f"{text} ({', '.join(caveats)})" if caveats else text


def _how_many(clear: list[Quantity], compared: int) -> str:
    if len(clear) < compared:
        return f"{len(clear)} of {compared} measures"
    every = {1: clear[0].title, 2: "both measures"}
    return every.get(compared, f"all {compared} measures")
