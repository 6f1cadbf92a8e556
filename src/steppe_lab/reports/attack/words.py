"""Sentences and rows about attacks, for terminals and pages."""

from __future__ import annotations

import math

from steppe.adversarial.balls import Norm
from steppe_lab.analysis.attacking import AttackedNetwork
from steppe_lab.attacks import ATTACKS
from steppe_lab.reports.text.numbers import number, one_or_more, percent, with_ends
from steppe_lab.reports.text.words import capitalised
from steppe_lab.statistics.intervals import Interval

NORMS: dict[Norm, str] = {"inf": "L∞", "2": "L2"}
WORST = "all of them"  # the row of samples that resist every attack
READING = (
    "Share of all samples that are still classified rightly, with Wilson intervals of "
    "95 %. A sample that a smaller budget has changed counts at every larger one."
)


def title(done: AttackedNetwork) -> str:
    """The heading of a report: the network and its optimizer, or its file."""
    target = done.target
    name = target.recipe.model.name
    if target.belongs:
        return f"Attacks on {name} in {target.path.name}"
    return f"Attacks on {name} trained by {target.trained_by}"


def budget_names(done: AttackedNetwork) -> list[str]:
    """Budgets as they were asked for."""
    return list(done.settings.eps)


def changed_things(done: AttackedNetwork) -> str:
    """The kind of inputs that budgets are of, in words."""
    result, target = done.done.result, done.target
    low, high = result.about["bounds"]
    between = f"from {low:g} to {high:g}"
    if result.about["protocol"] == "published":
        return f"standardised inputs, within {low:g} and {high:g}"
    if result.about["protocol"] == "inputs":
        return f"inputs {between} (in units of the inputs)"
    images = len(target.attacked.samples.in_shape) == 3
    return f"pixels {between}" if images else f"inputs {between}"


def answer(done: AttackedNetwork) -> list[str]:
    """How robust the network is, in a few sentences."""
    result = done.done.result
    part = result.about["part"]
    clean, ends = result.clean, with_ends(result.clean, share=True)
    sentences = [
        f"Unchanged, {percent(clean.mean)} of {one_or_more(result.samples, 'sample')} "
        f"of the {part} data are classified rightly ({ends.both} %)."
    ]
    worst, budget = result.worst[-1], budget_names(done)[-1]
    norm = NORMS[result.worst_norm]
    interval = with_ends(worst, share=True).both
    resisting = (
        f"Within a budget of {budget} in {norm} of {changed_things(done)}, "
        f"{percent(worst.mean)} resist"
    )
    if len(result.keys) == 1:
        return [*sentences, f"{resisting} {result.keys[0]} ({interval} %)."]
    last = [result.robust(index)[-1].mean for index in range(len(result.keys))]
    strongest = result.keys[last.index(min(last))]
    sentences.append(
        f"{resisting} each of the {len(result.keys)} attacks "
        f"({interval} %); the strongest one alone is {strongest}, which "
        f"{percent(min(last))} resist."
    )
    return sentences


def cell(interval: Interval) -> tuple[str, str]:
    """A share, and its interval."""
    ends = with_ends(interval, share=True)
    return percent(interval.mean), ends.both


def rows(done: AttackedNetwork) -> list[tuple[str, str, list[tuple[str, str]]]]:
    """Attack, norm, and a share with its interval for each budget; the worst last."""
    result = done.done.result
    made = [
        (key, NORMS[result.norms[index]], list(map(cell, result.robust(index))))
        for index, key in enumerate(result.keys)
    ]
    if len(result.keys) > 1:
        made.append((WORST, NORMS[result.worst_norm], list(map(cell, result.worst))))
    return made


def smallest(done: AttackedNetwork) -> list[str]:
    """Sentences on the smallest changes that succeed."""
    result = done.done.result
    sentences = []
    for index, key in enumerate(result.keys):
        median = result.median_norm(index)
        if math.isnan(median):
            continue
        norm = NORMS[result.norms[index]]
        size = number(median) if math.isfinite(median) else "beyond the search"
        sentences.append(
            f"The median of the smallest changes of {key} is {size}, in {norm}, over "
            "the samples that are right unchanged."
        )
    return sentences


def methods(done: AttackedNetwork) -> list[tuple[str, str, str]]:
    """Attack with its settings, its summary, and its source."""
    named = [(str(each), ATTACKS[each.name].spec) for each in done.target.attacks]
    return [(text, spec.summary, spec.source) for text, spec in named]


def notes(done: AttackedNetwork) -> list[str]:
    """Sentences on the data and the protocol."""
    return [f"{capitalised(note)}." for note in done.target.notes]
