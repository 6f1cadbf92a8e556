"""Scores of each configuration after the last and at the best epoch, over its seeds."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import pstdev
from typing import Any

from steppe_lab.reports.study.columns import numbers_of
from steppe_lab.statistics.intervals import Interval, mean_interval
from steppe_lab.studies.row_conditions import as_number
from steppe_lab.studies.table import StudyTable

BEST = "best_"
ROWS = 60  # that a table has room for
_CORPUS = "bleu"  # published of translations, whatever else they are judged by
_SCORE = re.compile(f"error|accuracy|loss|perplexity|{_CORPUS}")


@dataclass(frozen=True)
class Score:
    """Mean of a score over the networks of a row, with its intervals."""

    interval: Interval  # of Student
    normal: float  # 1.96 population standard deviations over the root of the count


@dataclass(frozen=True)
class ScoreRow:
    """One configuration."""

    levels: tuple[Any, ...]
    count: int
    last: Score | None
    best: Score | None


@dataclass(frozen=True)
class ScoreTable:
    """Scores of all configurations."""

    score: str  # column of the last epoch
    factors: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    best_on_test: bool  # the best epoch was chosen on test data


def named_by_words(table: StudyTable) -> tuple[str, ...]:
    """Factors such as optimizers and networks."""
    return tuple(
        name
        for name in table.factors
        if any(isinstance(cell, str) for cell in table.columns[name])
    )


def configurations(
    table: StudyTable, factors: Sequence[str]
) -> dict[tuple[Any, ...], list[int]]:
    """Places of the rows of a table by the levels of factors.

    Returns:
        Numbers by size, words by letters; none where there are more combinations than
        a table has room for.
    """
    rows: dict[tuple[Any, ...], list[int]] = {}
    for place in range(len(table)):
        levels = tuple(table.columns[name][place] for name in factors)
        rows.setdefault(levels, []).append(place)
    if len(rows) > ROWS:
        return {}
    order = sorted(rows, key=lambda levels: [_place(level) for level in levels])
    return {levels: rows[levels] for levels in order}


def scores_of(table: StudyTable) -> ScoreTable | None:
    """Scores by the levels of the factors that are named by words.

    These are optimizers, networks and the like; numbers beside them are averaged over.
    None where no column is a score on held-out samples, where no factor is of words, or
    where they have more combinations than a table has room for.

    Args:
        table: of a study.
    """
    score = _score(table)
    factors = named_by_words(table)
    if score is None or not factors:
        return None
    rows = configurations(table, factors)
    if not rows:
        return None
    last, best = (
        numbers_of(table.columns.get(name, [None] * len(table)))
        for name in (score, BEST + score)
    )
    return ScoreTable(
        score=score,
        factors=factors,
        rows=tuple(
            ScoreRow(
                levels,
                len(own),
                mean_score(last[own].tolist()),
                mean_score(best[own].tolist()),
            )
            for levels, own in rows.items()
        ),
        best_on_test=table.judged_on != "validation"
        and score.startswith("test")
        and BEST + score in table.columns,
    )


def _score(table: StudyTable) -> str | None:
    """The score on held-out samples: one that is published, with a best epoch.

    Of a corpus before an error, and an error before a loss.
    """
    held_out = [
        name
        for name in table.columns
        if _SCORE.search(name.lower())
        and re.match("test|val", name.lower())
        and name not in (*table.measures, table.gap, *table.factors)
    ]
    held_out.sort(
        key=lambda name: (
            BEST + name not in table.columns,
            _CORPUS not in name.lower(),
            "loss" in name,
        )
    )
    return held_out[0] if held_out else None


def _place(level: Any) -> tuple[bool, float, str]:
    """Where a level stands: numbers by size before words by letters."""
    number = as_number(level)
    return number is None, number or 0.0, str(level).casefold()


def mean_score(values: Sequence[float]) -> Score | None:
    """The mean of the values that are finite; None where there is none."""
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite:
        return None
    return Score(mean_interval(finite), 1.96 * pstdev(finite) / len(finite) ** 0.5)
