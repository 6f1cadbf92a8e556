"""Coverage of a study: trials planned, in the table and left out, and its levels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe_lab.reports.study.columns import levels_of
from steppe_lab.studies.table import Dropped, StudyTable

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d.,]*(e[+-]?\d+)?", re.IGNORECASE)


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


def _shared(alike: Sequence[Dropped]) -> str:
    """The reason of trials that differ in numbers at most."""
    text = alike[0].reason
    numbers = [[m[0] for m in _NUMBER.finditer(each.reason)] for each in alike]
    kept = iter(
        values[0] if len(set(values)) == 1 else "…"
        for values in zip(*numbers, strict=True)
    )
    return _NUMBER.sub(lambda _: next(kept), text)


def coverage_of(table: StudyTable) -> Coverage:
    """Coverage of a table: its rows, the trials left out, and levels per factor."""
    grouped: dict[str, list[Dropped]] = {}
    for each in table.dropped:
        grouped.setdefault(_NUMBER.sub("…", each.reason), []).append(each)
    reasons = [Reason(_shared(alike), tuple(alike)) for alike in grouped.values()]
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
