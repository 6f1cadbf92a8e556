"""One sentence to the question: flatter, better, worth it?"""

from __future__ import annotations

from dataclasses import dataclass

from steppe_lab.reports.numbers import listed, points
from steppe_lab.reports.quantities import BEST, HEADLINE, Quantity
from steppe_lab.reports.summary import Summary, Versus


@dataclass(frozen=True)
class Verdict:
    """What can be told beyond noise of one optimizer against the first."""

    flatter: tuple[Quantity, ...]
    sharper: tuple[Quantity, ...]
    compared: int  # measures of flatness that both have


def verdict(summary: Summary, versus: Versus) -> Verdict:
    """Sort the measures of flatness by what they say beyond noise."""
    sorted_: dict[bool, list[Quantity]] = {True: [], False: []}
    compared = 0
    for quantity in summary.quantities:
        found = versus.changes.get(quantity.key)
        if not quantity.flatness or found is None:
            continue
        compared += 1
        if found.clear:
            sorted_[found.lower == (quantity.better == "smaller")].append(quantity)
    return Verdict(tuple(sorted_[True]), tuple(sorted_[False]), compared)


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
    flat = _flat(verdict(summary, versus), summary.first, matched=versus.matched)
    error = summary.quantity(HEADLINE).phrase
    size = f"{points(abs(found.interval.mean))} points"
    stops = " (most of it by when training stops)" if by_stopping(versus) else ""
    price = versus.price or 1.0
    if not found.clear:
        end = f"its {error} is within noise of {summary.first}'s"
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


def _flat(found: Verdict, first: str, *, matched: bool) -> str:
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
    names = [listed([quantity.title for quantity in clear])] if few else []
    caveats = [*names, *([] if matched else ["not at matched train loss"])]
    return f"{text} ({', '.join(caveats)})" if caveats else text


def _how_many(clear: list[Quantity], compared: int) -> str:
    if len(clear) < compared:
        return f"{len(clear)} of {compared} measures"
    return f"all {compared} measures" if compared > 1 else clear[0].title
