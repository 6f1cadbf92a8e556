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


def scores_of(table: StudyTable, most: int = 60) -> ScoreTable | None:
    """Scores by the levels of the factors that are named by words.

    These are optimizers, networks and the like; numbers beside them are averaged over.
    None where no column is a score on held-out samples, where no factor is of words, or
    where they have more combinations than a table has room for.

    Args:
        table: of a study.
        most: rows.
    """
    score = _score(table)
    factors = tuple(
        name
        for name in table.factors
        if any(isinstance(cell, str) for cell in table.columns[name])
    )
    if score is None or not factors:
        return None
    rows: dict[tuple[Any, ...], list[int]] = {}
    for place, levels in enumerate(
        zip(*(table.columns[n] for n in factors), strict=True)
    ):
        rows.setdefault(levels, []).append(place)
    if len(rows) > most:
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
                levels, len(own), _mean(last[own].tolist()), _mean(best[own].tolist())
            )
            for levels, own in sorted(
                rows.items(), key=lambda row: [_place(level) for level in row[0]]
            )
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


def _mean(values: Sequence[float]) -> Score | None:
    finite = [float(value) for value in values if math.isfinite(value)]
    if not finite:
        return None
    return Score(mean_interval(finite), 1.96 * pstdev(finite) / len(finite) ** 0.5)
