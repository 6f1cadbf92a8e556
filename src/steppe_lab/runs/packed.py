"""Training runs that are done together, each with the files and the result of its own.

Recipes that train as one pack do; the others follow one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steppe.errors import SteppeError
from steppe_lab.datasets import Split
from steppe_lab.datasets.recent import recent_split
from steppe_lab.progress import Progress, Report
from steppe_lab.runs.provenance import note_start
from steppe_lab.runs.training import (
    STATE,
    keep_every,
    saved_state,
    stored,
    train_network,
)
from steppe_lab.store.json_files import write_atomically
from steppe_lab.training.loop import Trained
from steppe_lab.training.packed.grouping import dealt, packs
from steppe_lab.training.packed.loop import train_packed
from steppe_lab.training.packed.memory import most_members
from steppe_lab.training.packed.network import CannotPackError
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.starts import stored_start

Done = Callable[[int, dict[str, Any] | BaseException], None]


def report_of(folder: Path, report: Report) -> Report:
    """A report whose events name the run of a folder."""
    return lambda progress: report(replace(progress, run=folder.name))


def train_together(
    recipes: Sequence[Recipe], folders: Sequence[Path], report: Report, done: Done
) -> None:
    """Train networks in one process, as packs where that is possible.

    A member that fails does so alone. Packs are as large as memory allows. An error of
    a whole pack, as where memory was shorter, is raised: it says nothing of any member.

    Args:
        recipes: of the trainings.
        folders: of the runs, in one store.
        report: of progress; an event without a run is of all that have not ended.
        done: called with the index and the result, or the error, of each as it ends.
    """
    for group in packs(recipes, max(len(recipes), 1)):
        if len(group) > 1:
            _pack(group, recipes, folders, report, done)
        else:
            _alone(group, recipes, folders, report, done)


def _alone(
    places: Sequence[int],
    recipes: Sequence[Recipe],
    folders: Sequence[Path],
    report: Report,
    done: Done,
) -> None:
    """Train networks one after the other."""
    for place in places:
        folder = folders[place]
        try:
            result: Any = train_network(
                recipes[place], folder, report_of(folder, report)
            )
        except BaseException as error:
            result = error
        done(place, result)


def _pack(
    group: Sequence[int],
    recipes: Sequence[Recipe],
    folders: Sequence[Path],
    report: Report,
    done: Done,
) -> None:
    """Train recipes of one structure, in packs that memory allows."""
    left = set(group)

    def ended(place: int, result: dict[str, Any] | BaseException) -> None:
        left.discard(place)
        done(place, result)

    try:
        split = recent_split(recipes[group[0]])
        for part in dealt(group, most_members(recipes[group[0]], split)):
            _one_pack(part, recipes, folders, split, report, ended)
    except CannotPackError as error:
        names = f"{len(left)} networks one by one: {error}"
        report(Progress(text=names))
        _alone([p for p in group if p in left], recipes, folders, report, ended)


def _one_pack(
    places: Sequence[int],
    recipes: Sequence[Recipe],
    folders: Sequence[Path],
    split: Split,
    report: Report,
    done: Done,
) -> None:
    own = [folders[place] for place in places]
    others = len(places) - 1

    def ended(member: int, outcome: Trained | SteppeError) -> None:
        place = places[member]
        result: Any = outcome
        if isinstance(outcome, Trained):
            try:
                result = stored(recipes[place], split, outcome, own[member], others)
            except Exception as error:
                result = error
        done(place, result)

    def began() -> None:
        for place in places:
            note_start(folders[place], recipes[place].device, others)

    train_packed(
        [recipes[place] for place in places],
        split,
        ended=ended,
        began=began,
        report=report,
        resume=[saved_state(folder, report_of(folder, report)) for folder in own],
        keep=lambda member, state: write_atomically(own[member] / STATE, state),
        keep_every=keep_every(),
        folders=own,
        starts=[stored_start(recipes[p], folders[p].parent.parent) for p in places],
    )
