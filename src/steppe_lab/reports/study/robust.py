"""Accuracies under attack of each configuration, over its seeds."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from steppe_lab.reports.study.columns import numbers_of
from steppe_lab.reports.study.scores import (
    Score,
    configurations,
    mean_score,
    named_by_words,
)
from steppe_lab.studies.robustness import robust_columns
from steppe_lab.studies.table import StudyTable


@dataclass(frozen=True)
class RobustCell:
    """Mean of an accuracy over the networks of a row."""

    score: Score  # its interval ends at 0 and 1, where it has ends
    stderr: float  # over the samples, of a single network; NaN where it is not known


@dataclass(frozen=True)
class RobustRow:
    """One configuration."""

    levels: tuple[Any, ...]
    count: int
    cells: tuple[RobustCell | None, ...]


@dataclass(frozen=True)
class RobustTable:
    """Accuracies under attack of all configurations."""

    columns: tuple[str, ...]  # of the table of the study
    factors: tuple[str, ...]
    rows: tuple[RobustRow, ...]


def robust_of(table: StudyTable) -> RobustTable | None:
    """Accuracies under attack by the levels of all factors.

    Where they have more combinations than a table has room for, numbers are averaged
    over. None where no network was attacked, or where there is no room even so.
    """
    columns = tuple(robust_columns(table.columns))
    factors = table.factors
    rows = configurations(table, factors)
    if not rows:
        factors = named_by_words(table)
        rows = configurations(table, factors)
    if not columns or not rows:
        return None
    values = [numbers_of(table.columns[name]) for name in columns]
    errors = [numbers_of(table.stderr(name) or [None] * len(table)) for name in columns]

    def cell(column: int, own: list[int]) -> RobustCell | None:
        kept = [place for place in own if math.isfinite(values[column][place])]
        score = mean_score(values[column][kept].tolist())
        if score is None:
            return None
        alone = float(errors[column][kept[0]]) if len(kept) == 1 else math.nan
        return RobustCell(_cut(score), alone)

    return RobustTable(
        columns,
        factors,
        tuple(
            RobustRow(levels, len(own), tuple(cell(c, own) for c in range(len(values))))
            for levels, own in rows.items()
        ),
    )


def _cut(score: Score) -> Score:
    """A mean of shares, without the ends of its interval that no share has."""
    interval = score.interval
    if interval.count < 2:  # no ends
        return score
    low, high = max(interval.low, 0.0), min(interval.high, 1.0)
    return replace(score, interval=replace(interval, low=low, high=high))
