"""Two groups of networks and the test whether a column has one distribution in both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from steppe_lab import statistics
from steppe_lab.reports.study.columns import levels_of, numbers_of
from steppe_lab.reports.study.results import Split
from steppe_lab.statistics.holm import holm_adjusted
from steppe_lab.studies.table import StudyTable

ADAPTIVE = {
    *("adagrad", "adadelta", "rmsprop", "adam", "adamw", "adamax", "nadam", "radam"),
    *("adabound", "adashift", "adabelief", "amsgrad", "yogi", "lamb"),
}
PLAIN = {"sgd", "phb", "momentum", "nesterov", "nag", "asgd", "gd", "lars"}
ADAPTIVE_WORDS = ("adaptive", "not adaptive")


def splits_of(table: StudyTable, columns: Sequence[str]) -> Iterator[Split]:
    """Tests between the levels of each factor that has two.

    A factor whose levels are all optimizers is split into those that scale each
    parameter's step by its past gradients, and the others. Rows of one configuration
    are averaged first.

    Args:
        table: of a study.
        columns: of numbers, that are compared.
    """
    for factor in table.factors:
        levels = levels_of(table.columns[factor])
        kinds = {level: _kind(level) for level in levels}
        if len(levels) == 2:
            yield from _splits(table, columns, factor, {e: str(e) for e in levels})
        elif None not in kinds.values() and len(set(kinds.values())) == 2:
            yield from _splits(table, columns, factor, kinds)


def _kind(level: Any) -> str | None:
    """The kind of an optimizer; None for other words."""
    words = str(level).lower().replace(":", " ").split()
    if not words or words[0] not in ADAPTIVE | PLAIN:
        return None
    return ADAPTIVE_WORDS[words[0] in PLAIN]


def _splits(
    table: StudyTable, columns: Sequence[str], factor: str, kinds: dict[Any, Any]
) -> Iterator[Split]:
    first, second = list(dict.fromkeys(kinds.values()))
    made: list[Split] = []
    for column in columns:
        means = _means(table, column, factor, kinds)
        if {first, second} - set(means["group"]):
            continue
        test = statistics.two_sample_ks(means, column, "group")
        if str(test.left) == second:
            first, second = second, first
        made.append(
            Split(
                column=column,
                factor=factor,
                first=str(test.left),
                second=str(test.right),
                statistic=test.value,
                p=test.p,
                adjusted_p=test.p,
                counts=(test.left_rows, test.right_rows),
            )
        )
    adjusted = holm_adjusted({each.column: each.p for each in made})
    yield from (replace(each, adjusted_p=adjusted[each.column]) for each in made)


def _means(
    table: StudyTable, column: str, factor: str, kinds: dict[Any, Any]
) -> dict[str, list[Any]]:
    """Means over the seeds of each configuration, with its group."""
    values = numbers_of(table.columns[column])
    together: dict[tuple[Any, ...], list[float]] = {}
    names = dict.fromkeys((factor, *table.group))
    keys = zip(*(table.columns[name] for name in names), strict=True)
    # Without a seed each row is a configuration.
    alone = "seed" not in table.columns
    for place, (value, key) in enumerate(zip(values, keys, strict=True)):
        if np.isfinite(value):
            together.setdefault((*key, place if alone else 0), []).append(float(value))
    return {
        column: [sum(each) / len(each) for each in together.values()],
        "group": [kinds[key[0]] for key in together],
    }
