"""Sentences on the results of an experiment: counts, how to go on, reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from steppe_lab.reports.reproduction.numbers import count_text
from steppe_lab.reports.text.numbers import listed, one_or_more
from steppe_lab.reproduction.claims import is_named
from steppe_lab.reproduction.results import ClaimResult, ExperimentResult
from steppe_lab.reproduction.verdicts import FULL, Verdict

if TYPE_CHECKING:
    from steppe_lab.reproduction.costs import ClaimCost

CHECK = "not run at this scale"
WORDS: dict[Verdict, str] = {  # of verdicts that do not follow a number
    "published protocol differs": "reproduced by the published protocol alone",
    "no published number": "without a published number",
}


def answer(result: ExperimentResult) -> list[str]:
    """The verdicts by number, and a sentence on scales that are not compared."""
    counts = result.counts()
    total = sum(counts.values())
    if not total:
        return [f"No claim has a number at the scale {result.request.scale}."]
    made = sum(
        row.verdict == CHECK and row.ours.value is not None
        for each in result.claims
        for row in each.rows
    )
    said = []
    for each, count in counts.items():
        if each == CHECK and made:  # the verdict alone reads as if nothing had run
            said.append(f"{made:,} run, but not compared at this scale")
            count -= made
        if count:
            said.append(f"{count:,} {WORDS.get(each, each)}")
    noun = "cell" if total == 1 else "cells"
    sentences = [f"Of {total:,} {noun}: {listed(said)}."]
    if made:
        sentences.append(
            f"At the scale {result.request.scale} trained networks are smaller than "
            "the published ones: their numbers check that the code runs, and have the "
            f'verdict "{CHECK}".'
        )
    return sentences


def going_on(result: ExperimentResult) -> str:
    """How the numbers that are missing are made."""
    name, scale = result.experiment.name, result.request.scale
    if scale != FULL and any(each.study for each in result.claims):
        return (
            f"`steppe reproduce {name} --scale {FULL}` trains at the published size; "
            "add --dry-run for its cost first. Where it is stopped, the same command "
            "goes on."
        )
    if any(each.study for each in result.claims) and "not run" in result.counts():
        return "The same command does the runs that are left."
    return ""


def cost_sentences(costs: Sequence[ClaimCost], workers: int) -> list[str]:
    """Failures, the cost of measures, and the time that is left, in sentences."""
    from steppe_lab.studies.survey import in_words

    said = []
    for each in costs:
        if each.failure:
            said.append(f"{each.claim} cannot be run: {each.failure}.")
        if each.measured.gradients or each.measured.products:
            said.append(
                f"{each.claim}: the measures take about "
                f"{count_text(each.measured.gradients)} gradients and "
                f"{count_text(each.measured.products)} Hessian products of single "
                "samples."
            )
        if each.time is not None and each.finished < each.runs:
            said.append(f"{each.claim}: {in_words(each.time, workers)}.")
    twice = [f"{each.repeated:,} of {each.claim}" for each in costs if each.repeated]
    if twice:
        said.append(
            "Trainings that a claim before has as well, and that are done once: "
            f"{listed(twice)}."
        )
    if any(each.finished < each.runs for each in costs) and not any(
        each.time for each in costs
    ):
        said.append("The time is estimated as soon as runs are finished; see --pilot.")
    return said


def remarks(each: ClaimResult) -> list[str]:
    """Reasons of cells without numbers, notes on published ones, caveats of a claim."""
    reasons: dict[str, list[str]] = {}
    for row in each.rows:
        if row.ours.why_not and row.ours.why_not != each.failure:
            reasons.setdefault(row.ours.why_not, []).append(row.cell.name)
    said = [f"Nothing of it was run: {each.failure}."] if each.failure else []
    for why, cells in reasons.items():
        which = _together(cells, each)
        names = listed(which) if len(which) < 4 else one_or_more(len(cells), "cell")
        said.append(f"Not run, {names}: {why}.")
    notes: dict[str, list[str]] = {}
    for row in each.rows:
        if row.published is not None and row.published.note:
            notes.setdefault(row.published.note, []).append(row.cell.name)
    said += [
        f"{listed(_together(cells, each))}, published: {note}."
        for note, cells in notes.items()
    ]
    if each.elsewhere:
        further = one_or_more(each.elsewhere, "further cell")
        verb = "is" if each.elsewhere == 1 else "are"
        said.append(f"{further} {verb} not of this scale.")
    return [*said, *each.claim.caveats]


def _together(names: Sequence[str], each: ClaimResult) -> list[str]:
    """Cells of a result, several by the beginning that all cells so named share."""
    cells = [row.cell for row in each.rows if row.cell.name in names]
    others = [row.cell for row in each.rows if row.cell.name not in names]
    starts: dict[str, None] = {}
    for cell in cells:
        words = cell.name.split("/")
        for start in ("/".join(words[:count]) for count in range(1, len(words))):
            many = sum(is_named(one, (start,)) for one in cells) > 1
            if many and not any(is_named(other, (start,)) for other in others):
                break
        else:
            start = cell.name
        starts[start] = None
    return list(starts)
