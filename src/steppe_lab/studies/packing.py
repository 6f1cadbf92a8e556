"""Packs of a study: trainings of one structure, which a worker does together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from steppe.errors import SettingError
from steppe_lab.datasets.recent import recent_split
from steppe_lab.execution.abstract import Bundles
from steppe_lab.runs import WORK_TOGETHER
from steppe_lab.studies.plan import Plan
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.packed.grouping import dealt, packs, structure_of
from steppe_lab.training.packed.pilot import timed
from steppe_lab.training.recipe import Recipe

AUTO, OFF = "auto", "off"
MOST = 27  # members of a pack whose size nobody says: their memory stays in caches
FEW = 5000  # steps of all members, below which a pilot would not pay
_TIMED = 8  # members of the pilot
_LEAST_GAIN = 1.1


def read_pack(text: str) -> int | None:
    """The most members of a pack: 0 for as many as suit, None for no packs.

    Example:
        >>> read_pack("auto"), read_pack("off"), read_pack("16")
        (0, None, 16)

    Raises:
        SettingError: another text, or a number below 2.
    """
    if text == AUTO:
        return 0
    if text == OFF:
        return None
    if not text.isdecimal() or int(text) < 2:
        raise SettingError(
            f"--pack takes auto, off or the most members of a pack, 2 or more, got "
            f"'{text}'."
        )
    return int(text)


def bundles_of(plan: Plan, most: int, workers: int) -> Bundles:
    """How trainings of a plan are done together; all other runs are done alone.

    Args:
        plan: trials of the study.
        most: members of a pack; 0 for as many as keep all workers busy, at most 27,
            and for packs only where `is_faster` says so. A worker takes fewer at once
            where memory is short.
        workers: that packs are dealt out to.
    """
    faster: dict[str, bool] = {}  # by structure, where the call leaves it open

    def is_packed(recipes: Sequence[Recipe]) -> bool:
        if most or len(recipes) < 2:
            return True
        structure = structure_of(recipes[0])
        if structure not in faster:
            faster[structure] = is_faster(recipes)
        return faster[structure]

    def cut(runs: Sequence[str]) -> Iterator[tuple[str, ...]]:
        trainings = [run for run in runs if run in plan]
        at_most = most or min(MOST, max(1, -(-len(trainings) // workers)))
        recipes = [plan[run].recipe for run in trainings]
        for group in packs(recipes, max(len(recipes), 1)):
            together = is_packed([recipes[place] for place in group])
            for part in dealt(group, at_most if together else 1):
                yield tuple(trainings[place] for place in part)
        yield from ((run,) for run in runs if run not in plan)

    return Bundles(cut, WORK_TOGETHER)


def is_faster(recipes: Sequence[Recipe]) -> bool:
    """Whether recipes of one structure are worth packing, by a few steps of both ways.

    Short trainings are not timed and not packed.
    """
    some = recipes[:_TIMED]
    try:
        split = recent_split(some[0])
        steps = Epochs.of(some[0], len(split.train)).steps * len(recipes)
        return steps >= FEW and timed(some, split).gain >= _LEAST_GAIN
    except Exception:  # the run of a recipe itself says what is wrong with it
        return False
