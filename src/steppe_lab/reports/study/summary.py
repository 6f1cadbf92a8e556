"""Statistics of a table, gathered for its report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from steppe_lab import statistics
from steppe_lab.reports.study.along import along_factors
from steppe_lab.reports.study.columns import is_ordered, levels_of
from steppe_lab.reports.study.coverage import coverage_of
from steppe_lab.reports.study.optima import optima_of
from steppe_lab.reports.study.results import (
    HELD_OUT,
    Bounded,
    Environment,
    Information,
    Predictor,
    StudySummary,
    Within,
)
from steppe_lab.reports.study.robust import robust_of
from steppe_lab.reports.study.scores import scores_of
from steppe_lab.reports.study.splits import splits_of
from steppe_lab.statistics.holm import holm_adjusted
from steppe_lab.statistics.predictors import ADDITIVE, Baselines
from steppe_lab.studies.parts import Parts, with_parts
from steppe_lab.studies.table import StudyTable

GROUPS = 12  # levels of a factor within which correlations are taken, at most
CELLS = (
    50_000  # networks x measures x factors, up to which that is done for numbers too
)
LEAST = 10  # configurations, below which a difference has no interval
DRAWS = 25  # of errors, for a noise ceiling: its own error is below 0.01
LEAST_DRAWS, DRAWS_PER_MEASURE = 1000, 50  # of configurations, for a difference


def summarise(
    table: StudyTable,
    *,
    within: Sequence[str] = (),
    environments: Sequence[str] = (),
    test_samples: int | None = None,
    notes: Sequence[str] = (),
    report: Callable[[int, int, str], None] | None = None,
) -> StudySummary:
    """All statistics of a table.

    Args:
        table: rows without a finite gap are left out, and counted.
        within: columns within whose levels correlations are taken; empty for all
            factors with at most twelve levels.
        environments: factors whose changes are environments of sign errors; empty for
            all.
        test_samples: that each gap, a difference of error rates in percentage points,
            was computed on; the number in the table where none is given.
        notes: sentences on the table itself.
        report: called before each measure and after the last, with the number done,
            the number of all, and the name of the next.

    Raises:
        DataError: a name that is no column, or a text among the values of a measure.
        UsageError: no row has a finite gap.
    """
    table = with_parts(table, Parts())
    samples = test_samples or table.test_samples
    if samples is not None:
        text = (
            f"Sign errors are of pairs of networks whose gaps, in percentage points, "
            f"differ by more than chance on {samples:,} test samples (Hoeffding)."
        )
        notes = (*notes, text)
    baselines = statistics.baselines(table.columns, table.gap, table.factors)
    best = baselines.best
    tell = report or (lambda *_: None)
    measures: list[Predictor] = []
    differences = _differences(table, baselines)
    for name in table.measures:
        tell(len(measures), len(table.measures), name)
        difference = differences.get(name, (Bounded(), math.nan))
        measures.append(_measure(table, name, difference, environments, samples))
    tell(len(measures), len(measures), "")
    measures = _allowed_for(measures)
    measures.sort(key=lambda each: -_or_least(each.tau.value))
    scores = scores_of(table)
    score = (scores.score,) if scores else ()
    compared = (table.gap, *score, *(each.name for each in measures))
    return StudySummary(
        table=table,
        coverage=coverage_of(table),
        measures=tuple(measures),
        baselines=tuple(_baselines(baselines)),
        best="" if best is None else best.name,
        within=tuple(_within(table, within)),
        splits=tuple(splits_of(table, compared)),
        scores=scores,
        along=tuple(along_factors(table, (table.gap, *table.measures))),
        optima=optima_of(table, *score) if score else (),
        robust=robust_of(table),
        notes=tuple(notes),
    )


def _or_least(value: float) -> float:
    return value if math.isfinite(value) else -math.inf


def bounded(statistic: Any) -> Bounded:
    """The value of a statistic with its interval."""
    return Bounded(statistic.value, statistic.low, statistic.high)


def _measure(
    table: StudyTable,
    name: str,
    difference: tuple[Bounded, float],
    environments: Sequence[str],
    test_samples: int | None,
) -> Predictor:
    columns, gap, factors = table.columns, table.gap, table.factors
    tau = statistics.kendall(columns, name, gap, cluster=table.group)
    alone = Predictor(name=name, count=tau.rows, tau=bounded(tau), tau_p=tau.p)
    if not alone.tau.is_defined:
        return alone
    alone = replace(alone, difference=difference[0], difference_p=difference[1])
    # Without standard errors nothing is known of a ceiling.
    if table.stderr(name) is not None:
        ceiling = statistics.noise_ceiling(columns, name, gap, draws=DRAWS)
        alone = replace(alone, ceiling=ceiling.value)
    if not factors:
        return alone
    along = statistics.granulated(columns, name, gap, factors)
    given = statistics.conditional_information(
        columns, name, gap, factors, interval=False
    )
    residual = statistics.residual_kendall(columns, name, gap, factors)
    return replace(
        alone,
        by_factor={factor: each.value for factor, each in along.factors.items()},
        psi=along.value,
        information=Information(given.value, given.given),
        worst=_worst(table, name, environments, test_samples),
        residual={
            "raw": residual.value,
            "log": residual.log.value,
            "rank": residual.rank.value,
        },
    )


def _allowed_for(measures: Sequence[Predictor]) -> list[Predictor]:
    """Measures with p that allow for all of them."""
    of_tau = holm_adjusted({each.name: each.tau_p for each in measures})
    of_difference = holm_adjusted({each.name: each.difference_p for each in measures})
    return [
        replace(each, tau_p=of_tau[each.name], difference_p=of_difference[each.name])
        for each in measures
    ]


def _worst(
    table: StudyTable, name: str, environments: Sequence[str], samples: int | None
) -> Environment:
    errors = statistics.sign_error(
        table.columns, name, table.gap, table.factors, test_samples=samples
    )
    counted = [
        each
        for each in errors.values()
        if each.pairs and each.factor in (environments or table.factors)
    ]
    if not counted:
        return Environment()
    worst = max(counted, key=lambda each: each.value)
    return Environment(worst.value, worst.name, worst.pairs)


def _differences(
    table: StudyTable, baselines: Baselines
) -> dict[str, tuple[Bounded, float]]:
    """Differences to the best baseline, and their p."""
    best = baselines.best
    if best is None:
        return {}
    # A baseline that falls with the gap predicts as well as one that rises.
    sign = math.copysign(1.0, best.value)
    values = [None if value is None else sign * value for value in best.values]
    made = statistics.paired_bootstraps(
        table.columns,
        table.measures,
        values,
        table.gap,
        cluster=table.group,
        # Else p is never so small that Holm's correction lets a measure pass.
        draws=max(LEAST_DRAWS, DRAWS_PER_MEASURE * len(table.measures)),
    )
    # Draws of so few configurations are too much alike for an interval.
    return {
        name: (bounded(each), each.p)
        if each.clusters >= LEAST
        else (Bounded(each.value), math.nan)
        for name, each in made.items()
    }


def _baselines(baselines: Baselines) -> Iterator[Predictor]:
    """Baselines by the size of their tau, and the additive model after them."""
    for each in sorted(
        baselines.values(),
        key=lambda each: (each.name == ADDITIVE, -_or_least(abs(each.value))),
    ):
        made = Predictor(
            name=each.name, is_baseline=True, count=each.rows, tau=bounded(each)
        )
        yield made
        if each.held_out is not None:
            yield replace(made, name=HELD_OUT, tau=bounded(each.held_out))


def _grouping(table: StudyTable) -> list[str]:
    """Factors within whose levels correlations are taken where none are named.

    In large tables these are words and switches alone: 3,000 networks take 0.1 s for
    each measure and factor.
    """
    small = len(table) * len(table.measures) * len(table.factors) <= CELLS
    levels = {name: levels_of(table.columns[name]) for name in table.factors}
    return [
        name
        for name, each in levels.items()
        if 1 < len(each) <= GROUPS and (small or len(each) == 2 or not is_ordered(each))
    ]


def _within(table: StudyTable, asked: Sequence[str]) -> Iterator[Within]:
    for factor in asked or _grouping(table):
        for name in table.measures:
            groups = statistics.within_groups(
                table.columns, name, table.gap, factor, cluster=table.group
            )
            yield Within(
                measure=name,
                factor=factor,
                pooled=groups.value,
                within=bounded(groups.within),
                groups={
                    level: (each.value, each.rows)
                    for level, each in groups.levels.items()
                },
                warning=groups.warning,
            )
