"""Coverage of a study: trials planned, in the table and left out, and its levels."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from steppe_lab.reports.study.columns import levels_of
from steppe_lab.studies.reasons import alike_reasons
from steppe_lab.studies.table import Dropped, StudyTable


@dataclass(frozen=True)
class Reason:
    """Trials that were left out for one reason."""

    text: str  # with … in place of numbers that differ
    trials: tuple[Dropped, ...]


@dataclass(frozen=True)
class Coverage:
    """How much of a study its table covers."""

    planned: int
    done: int
    reasons: tuple[Reason, ...]  # most trials first
    levels: dict[str, tuple[tuple[Any, int], ...]]  # of each factor, with networks


def coverage_of(table: StudyTable) -> Coverage:
    """Coverage of a table: its rows, the trials left out, and levels per factor."""
    alike = alike_reasons(each.reason for each in table.dropped)
    reasons = [
        Reason(text, tuple(table.dropped[place] for place in places))
        for text, places in alike.items()
    ]
    counted = {name: Counter(table.columns[name]) for name in table.factors}
    return Coverage(
        planned=len(table) + len(table.dropped),
        done=len(table),
        reasons=tuple(sorted(reasons, key=lambda reason: -len(reason.trials))),
        levels={
            name: tuple((level, counts[level]) for level in levels_of([*counts]))
            for name, counts in counted.items()
        },
    )
