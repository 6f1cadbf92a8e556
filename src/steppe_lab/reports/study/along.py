"""Measures and gap along a setting that has an order, such as label noise or width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steppe_lab.reports.study.columns import is_ordered, levels_of, numbers_of
from steppe_lab.statistics import kendall
from steppe_lab.statistics.intervals import Interval, mean_interval
from steppe_lab.studies.table import StudyTable

LEAST = 5  # levels, below which there is nothing to see along them


@dataclass(frozen=True)
class Along:
    """One column along the levels of one factor."""

    factor: str
    column: str
    runs: dict[float, tuple[float, ...]]  # finite values at each level
    means: dict[float, Interval]
    tau: float  # of levels and means; NaN for fewer than two levels


def along_factors(table: StudyTable, columns: Sequence[str]) -> list[Along]:
    """Columns along all factors of numbers with at least five levels."""
    return [
        _along(table, factor, column)
        for factor in table.factors
        if is_ordered(table.columns[factor])
        and len(levels_of(table.columns[factor])) >= LEAST
        for column in columns
    ]


def _along(table: StudyTable, factor: str, column: str) -> Along:
    places, values = (numbers_of(table.columns[name]) for name in (factor, column))
    runs = {
        float(level): tuple(values[(places == level) & np.isfinite(values)].tolist())
        for level in levels_of(places.tolist())
    }
    means = {level: mean_interval(each) for level, each in runs.items() if each}
    return Along(factor, column, runs, means, _tau(means))


def _tau(means: dict[float, Interval]) -> float:
    pairs = {"level": [*means], "mean": [each.mean for each in means.values()]}
    return kendall(pairs, "level", "mean").value
