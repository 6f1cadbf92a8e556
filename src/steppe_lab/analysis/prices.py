"""The time that measures will take, which is said before they begin where it is long.

A pass over one batch is timed, and where that promises more than a minute, a Hessian
product too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch

from steppe.cost import GRADIENT, NOTHING, PRODUCT, Cost
from steppe.errors import SteppeError
from steppe.examination.plan import two_products
from steppe.measures import MEASURES
from steppe.objective import Objective
from steppe.registry.registry import is_code
from steppe.samples import on_batches, rows_of
from steppe_lab.progress import span_in_words
from steppe_lab.runs.analysis import read_measure

LONG = 60.0  # seconds below which nothing is said


def price_of(objective: Objective, measures: Sequence[str]) -> str | None:
    """A sentence on the time that measures will take; None where it is short.

    Args:
        objective: that they are called on; its cost counts nothing of this.
        measures: texts such as "trace:rtol=0.1"; code of the user has no price.
    """
    named = [read_measure(text).name for text in measures]
    names = [name for name in named if not is_code(name)]
    cost = sum((MEASURES[name].spec.cost for name in names), NOTHING)
    first = on_batches(objective, [objective.batches[0]])
    sizes = [rows_of(batch) or 1 for batch in objective.batches]
    try:
        seconds = _spent(cost, first, sum(sizes) / sizes[0])
    except (SteppeError, torch.OutOfMemoryError):
        return None  # the measures themselves say why
    if seconds < LONG:
        return None
    return (
        f"{', '.join(names)} may take {cost} over {sum(sizes):,} samples, "
        f"{span_in_words(seconds)} on this machine; fewer --samples take less."
    )


def _spent(cost: Cost, first: Objective, shares: float) -> float:
    """Seconds of some work, by its time on the first batch of so many shares."""
    forward = shares * _seconds(lambda: _pass(first))
    seconds = _total(cost, forward, PRODUCT * forward)
    if seconds < LONG or not cost.products:
        return seconds
    return _total(cost, forward, shares * two_products(first)[1])


def _total(cost: Cost, forward: float, product: float) -> float:
    passes = cost.forwards + GRADIENT * cost.gradients
    return passes * forward + cost.products * product


def _pass(objective: Objective) -> float:
    with objective.measuring():
        return float(objective.batch_values(0).sum())  # waits for a GPU


def _seconds(work: Callable[[], object]) -> float:
    """Of the shorter of two runs: the first one may have to prepare."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)
