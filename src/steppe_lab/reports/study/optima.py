"""The best level of a setting that was swept, such as the radius of SAM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe_lab import statistics
from steppe_lab.reports.study.columns import is_ordered, levels_of
from steppe_lab.statistics.optima import Optimum
from steppe_lab.studies.table import StudyTable

LEAST = 3  # levels, below which nothing was swept
SEED = "seed"


@dataclass(frozen=True)
class BestLevel:
    """The best level of the one setting that was swept, by words beside it."""

    words: tuple[str, ...]  # levels of the other factors, such as a method
    score: str  # column that it is the best in
    optimum: Optimum


def optima_of(table: StudyTable, score: str) -> tuple[BestLevel, ...]:
    """Best levels of a swept setting, one for each combination of the other factors.

    None unless just one factor has an order, with at least three levels, and networks
    differ in their seeds.

    Args:
        table: of a study.
        score: column of an error or a loss, or of an accuracy.
    """
    several = [name for name in table.factors if len(_levels(table, name)) > 1]
    swept = [name for name in several if is_ordered(table.columns[name])]
    if len(swept) != 1 or len(_levels(table, SEED)) < 2:
        return ()
    (setting,) = swept
    if len(_levels(table, setting)) < LEAST:
        return ()
    others = [name for name in several if name != setting]
    places: dict[tuple[Any, ...], list[int]] = {}
    for place in range(len(table)):
        key = tuple(table.columns[name][place] for name in others)
        places.setdefault(key, []).append(place)
    return tuple(
        BestLevel(tuple(map(str, key)), score, optimum)
        for key, own in places.items()
        if (optimum := _best(table, setting, score, own)) is not None
    )


def _levels(table: StudyTable, name: str) -> Sequence[Any]:
    return levels_of(table.columns.get(name, []))


def _best(
    table: StudyTable, setting: str, score: str, own: Sequence[int]
) -> Optimum | None:
    columns = {
        name: [table.columns[name][place] for place in own]
        for name in (setting, score, SEED)
    }
    return statistics.optimum(
        columns, setting, score, higher_is_better="accuracy" in score.lower()
    )
