"""Packs of a study: trainings of one structure, which a worker does together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from steppe.errors import SettingError
from steppe_lab.execution.abstract import Bundles
from steppe_lab.runs import WORK_TOGETHER
from steppe_lab.studies.plan import Plan
from steppe_lab.training.packed.grouping import packs

AUTO, OFF = "auto", "off"
MOST = 64  # members of a pack whose size nobody says


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
        most: members of a pack; 0 for as many as keep all workers busy, at most 64.
            A worker takes fewer at once where memory is short.
        workers: that packs are dealt out to.
    """

    def cut(runs: Sequence[str]) -> Iterator[tuple[str, ...]]:
        trainings = [run for run in runs if run in plan]
        at_most = most or min(MOST, max(1, -(-len(trainings) // workers)))
        recipes = [plan[run].recipe for run in trainings]
        for group in packs(recipes, at_most):
            yield tuple(trainings[place] for place in group)
        yield from ((run,) for run in runs if run not in plan)

    return Bundles(cut, WORK_TOGETHER)
