"""The plan of an examination in a given time: samples of its parts, and which parts.

Small pieces of the work are timed: a forward pass and the gradients of a few samples,
products with the Hessian on two numbers of samples, an operation on a vector of all
parameters, and the singular values of a small matrix.

Shape letters: N rows of all batches, B batches, D parameters in all.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from steppe.errors import SteppeError
from steppe.measures.measurement import Measurement
from steppe.measures.needs.gradients.row_gradients import AT_ONCE
from steppe.measures.needs.gradients.sample_gradients import GradientNorms
from steppe.measures.needs.spectrum.curvature import HessianOfLoss
from steppe.measures.needs.weights.layer_spectra import singular_values
from steppe.objective import Objective
from steppe.samples import on_batches, regrouped, row_count, rows_of

LEAST = 8  # samples of a part, where there are as many
FEW, SEVERAL, MANY = 2, 8, 64  # samples that are timed
BRIEF = 0.1  # seconds of a pass on a few samples below which a whole batch is timed
SIDE = 128  # of the matrix whose singular values are timed


@dataclass(frozen=True)
class Price:
    """Seconds of some work: those of any number of samples, and those of each."""

    fixed: float = 0.0
    each: float = 0.0

    def of(self, samples: int) -> float:
        """Seconds of so many samples."""
        return self.fixed + self.each * samples

    def within(self, seconds: float, most: int) -> int:
        """The number of samples for which the time is enough, within LEAST and most."""
        left = max(0.0, seconds - self.fixed)
        samples = left / self.each if self.each else math.inf
        return int(max(min(LEAST, most), min(samples, most)))


@dataclass(frozen=True)
class Units:
    """Prices of the pieces of which all work is made."""

    forward: Price  # a forward pass
    sample_gradients: Price  # the gradient of each sample apart
    product: Price  # with the Hessian
    preparation: Price  # of the graphs of the products, with a first product
    vector: float  # an operation on a vector of all parameters
    matrices: float  # singular values of all weight matrices


@dataclass(frozen=True)
class Plan:
    """Samples of both parts of an examination, and subjects that are left out."""

    samples: int
    curvature_samples: int
    left_out: Mapping[str, float] = field(default_factory=dict)  # seconds by subject


@dataclass(frozen=True)
class Part:
    """A part of the data, and its size."""

    objective: Objective
    samples: int  # rows, or batches where these have no rows
    of: int
    unit: str  # "sample" or "batch"

    @property
    def whole(self) -> bool:
        """Whether it is all of the data."""
        return self.samples == self.of


def planned(
    passes: Mapping[str, Price],
    curvature: Mapping[str, Price],
    seconds: float,
    most: int,
    samples: int | None = None,
    curvature_samples: int | None = None,
    needed: Collection[str] = (),
) -> Plan:
    """Samples that a time allows, about half of it for each part.

    Time that a part cannot use goes to the other one. Where not even the least numbers
    of samples are within the time, the dearest subject is left out, again and again. A
    part whose number of samples is given has all of its subjects, and counts nothing.

    Args:
        passes: by subject, on samples of the passes.
        curvature: by subject, on samples of the products.
        seconds: for all of it.
        most: samples that there are.
        samples: of the passes; None to be planned.
        curvature_samples: of the products; None to be planned.
        needed: subjects that are never left out.
    """
    free = [dict(passes if samples is None else {})]
    free.append(dict(curvature if curvature_samples is None else {}))
    left_out: dict[str, float] = {}
    least = min(LEAST, most)
    while sum(_sum(part).of(least) for part in free) > seconds:
        prices = {k: p.of(least) for part in free for k, p in part.items()}
        dear = [name for name in prices if name not in needed]
        if not dear:
            break
        name = max(dear, key=prices.__getitem__)
        left_out[name] = prices[name]
        for part in free:
            part.pop(name, None)
    a, b = (_sum(part) for part in free)
    half = a.within(seconds / 2 if free[1] else seconds, most)
    second = b.within(seconds - a.of(half), most) if free[1] else least
    first = a.within(seconds - b.of(second), most)
    return Plan(samples or first, curvature_samples or second, left_out)


def _sum(prices: Mapping[str, Price]) -> Price:
    fixed = math.fsum(price.fixed for price in prices.values())
    return Price(fixed, math.fsum(price.each for price in prices.values()))


def timed(objective: Objective, seed: int) -> Units:
    """Prices of the pieces on this machine; 0 for those that the network refuses.

    Args:
        objective: on all of the data.
        seed: of the samples that are timed.
    """
    D = sum(p.numel() for p in objective.params)
    vector = torch.zeros(D, dtype=objective.dtype, device=objective.device)
    return Units(
        forward=_forward(objective, seed),
        sample_gradients=_sample_gradients(objective, seed, max(1, AT_ONCE // D)),
        product=(products := _products(objective, seed))[0],
        preparation=products[1],
        vector=_seconds(lambda: float((vector * 2.0).norm())),
        matrices=_matrices(objective),
    )


def _forward(objective: Objective, seed: int) -> Price:
    """A forward pass, with that for the statistics in mode "reestimate"."""
    passes = 2 if objective.mode == "reestimate" else 1
    part = part_of(objective, SEVERAL, seed)
    spent = _seconds(_pass_of(part.objective))
    if part.unit == "batch":
        return Price(each=passes * spent)
    size, whole = (rows_of(o.batches[0]) or 1 for o in (part.objective, objective))
    if spent < BRIEF and whole > size:
        alone = on_batches(objective, list(objective.batches[:1]))
        spent, size = _seconds(_pass_of(alone)), whole
    return Price(each=passes * spent / size)


def _pass_of(objective: Objective) -> Callable[[], object]:
    def work() -> float:
        with objective.measuring():
            return float(objective.batch_values(0).sum())  # waits for a GPU

    return work


def _sample_gradients(objective: Objective, seed: int, at_once: int) -> Price:
    size = min(MANY, max(FEW, at_once))
    times: list[tuple[int, float]] = []
    for samples, runs in ((size, 2), (3 * size, 1)):
        part = part_of(objective, samples, seed)
        spent = _seconds(partial(_gradients_apart, part.objective), runs)
        times.append((part.samples, spent))
    return _line(*times)


def _gradients_apart(objective: Objective) -> None:
    Measurement(objective).of(GradientNorms())


def _products(objective: Objective, seed: int) -> tuple[Price, Price]:
    """Of a product, and of all that comes before the second one."""
    times: list[tuple[int, float, float]] = []
    with contextlib.suppress(SteppeError, torch.OutOfMemoryError):
        for samples in (FEW, SEVERAL):
            part = part_of(objective, samples, seed)
            times.append((part.samples, *two_products(part.objective)))
    if not times:
        return Price(), Price()
    (few, _, low), (several, first, high) = times[0], times[-1]
    product = _line((few, low), (several, high))
    # To prepare costs a sample as much as about two products.
    prepared = 2 * product.each
    return product, Price(max(0.0, first - prepared * several), prepared)


def _line(first: tuple[int, float], last: tuple[int, float]) -> Price:
    """The price by the seconds of two numbers of samples, or of one."""
    (few, low), (several, high) = first, last
    each = (high - low) / (several - few) if several > few else high / several
    each = max(0.0, each)
    return Price(max(0.0, high - each * several), each)


def two_products(objective: Objective) -> tuple[float, float]:
    """Seconds of the first one, with all that it needs, and of the second."""
    start = time.perf_counter()
    hessian = Measurement(objective).of(HessianOfLoss())
    ones = torch.ones(hessian.shape[0], dtype=hessian.dtype, device=hessian.device)
    float((hessian @ ones).sum())
    middle = time.perf_counter()
    float((hessian @ ones).sum())
    end = time.perf_counter()
    hessian.close()
    return middle - start, end - middle


def _matrices(objective: Objective) -> float:
    """All of them, by the time of a small one and the operations of each."""
    sizes = [tuple(p.shape) for p in objective.params if p.dim() > 1]
    work = sum(math.prod(s) * min(s[0], math.prod(s[1:])) for s in sizes)
    small = torch.eye(SIDE, dtype=torch.float64, device=objective.device)
    small = small + torch.ones_like(small).tril()
    return _seconds(lambda: singular_values(small[None])) * work / SIDE**3


def _seconds(work: Callable[[], object], runs: int = 2) -> float:
    """Of the last of some runs; 0.0 of work that is refused, which ends at once."""
    spent = 0.0
    with contextlib.suppress(SteppeError, torch.OutOfMemoryError):
        for _ in range(runs):
            start = time.perf_counter()
            work()
            spent = time.perf_counter() - start
        return spent
    return 0.0


def part_of(objective: Objective, samples: int, seed: int) -> Part:
    """Some samples, drawn by a seed; a smaller part lies within a larger one.

    Args:
        objective: on all of the data.
        samples: rows at most; of batches without rows, whole batches at most.
        seed: of the draw.
    """
    order = torch.Generator().manual_seed(seed)
    try:
        rows = row_count(objective)
        if samples >= rows:
            return Part(objective, rows, rows, "sample")
        chosen = (
            torch.randperm(rows, generator=order, device="cpu")[:samples].sort().values
        )
        groups = _like(chosen, objective)
        return Part(regrouped(objective, groups), samples, rows, "sample")
    except SteppeError:  # rows that cannot be put together anew
        count = len(objective.batches)
        most = max(1, min(count, samples))
        if most == count:
            return Part(objective, count, count, "batch")
        numbers = (
            torch.randperm(count, generator=order, device="cpu")[:most].sort().values
        )
        batches = [objective.batches[number] for number in numbers.tolist()]
        return Part(on_batches(objective, batches), most, count, "batch")


def _like(rows: Tensor, objective: Objective) -> Sequence[Tensor]:
    """Rows in batches of the size that there is."""
    size = max(rows_of(batch) or 1 for batch in objective.batches)
    return list(torch.split(rows, size))
