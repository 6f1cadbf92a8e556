"""How many samples an examination can take in a given time.

Two parts of it are planned apart: passes over the data, and products with the Hessian,
which cost far more a sample and need fewer of them.

Shape letters: N rows of all batches, B batches.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steppe.errors import SteppeError
from steppe.objective import Objective
from steppe.samples import on_batches, regrouped, row_count, rows_of

LEAST = 32  # rows of a part, where there are as many


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


def affordable(objective: Objective, passes: float, seconds: float) -> int:
    """Number of rows on which so many forward passes take a given time.

    The first batch is run twice; the second run is timed.

    Args:
        objective: on all of the data.
        passes: forward passes, or work that takes as long as them.
        seconds: for all of them.
    """
    rows = rows_of(objective.batches[0]) or 1
    with objective.measuring():
        for _ in range(2):
            start = time.perf_counter()
            float(objective.batch_values(0).sum())  # waits for a GPU
            spent = time.perf_counter() - start
    return max(LEAST, int(rows * seconds / (passes * spent)))


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
        chosen = torch.randperm(rows, generator=order)[:samples].sort().values
        groups = _like(chosen, objective)
        return Part(regrouped(objective, groups), samples, rows, "sample")
    except SteppeError:  # rows that cannot be put together anew
        count = len(objective.batches)
        most = max(1, min(count, samples))
        if most == count:
            return Part(objective, count, count, "batch")
        numbers = torch.randperm(count, generator=order)[:most].sort().values
        batches = [objective.batches[number] for number in numbers.tolist()]
        return Part(on_batches(objective, batches), most, count, "batch")


def _like(rows: Tensor, objective: Objective) -> Sequence[Tensor]:
    """Rows in batches of the size that there is."""
    size = max(rows_of(batch) or 1 for batch in objective.batches)
    return list(torch.split(rows, size))
