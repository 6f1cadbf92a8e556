"""The samples that points are evaluated on: all of the data, or a fixed part of it.

Shape letters: N rows of all batches, B batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from steppe.errors import SettingError, brief
from steppe.objective import Objective
from steppe.samples import (
    is_row_by_row,
    joinable,
    on_batches,
    regrouped,
    row_count,
    rows_of,
)
from steppe.torch_internals import tree_map

Samples = int | Literal["all"] | None

LEAST_BATCHES = 10  # that are drawn whole: fewer tell no error
LEAST_ROWS = 128  # of a batch of drawn rows on a CPU
ROWS = 256  # of a batch on a CPU, where larger ones are slower (measured: up to 1.8 x)


@dataclass(frozen=True)
class Part:
    """The data that points are evaluated on."""

    objective: Objective  # on it; the given one where its batches are evaluated
    by_batch: bool = False  # whole batches were drawn, whose samples may be alike


def check_samples(samples: Any) -> None:
    """Refuse anything but a positive number, None and "all"."""
    whole = isinstance(samples, int) and not isinstance(samples, bool)
    if samples is None or samples == "all" or (whole and samples >= 1):
        return
    raise SettingError(
        f"samples must be a whole number >= 1, or 'all', got {brief(samples)}."
    )


def evaluated_part(
    objective: Objective, samples: Samples, seed: int, terms: Sequence[int]
) -> Part:
    """The part of the data that points are evaluated on.

    Rows are drawn where the losses of a batch are those of its rows, else whole
    batches, so that every loss term is computed among the same others. On a CPU, longer
    batches of rows are cut.

    Args:
        objective: on all of the data.
        samples: number of samples; None or "all" for all of them. Where whole
            batches are drawn, of loss terms.
        seed: of the draw, from which the same rows follow for equally many.
        terms: loss terms of each batch.
    """
    sizes = [rows_of(batch) or 0 for batch in objective.batches]
    on_cpu = objective.device.type == "cpu"
    if samples is None or samples == "all" or (all(sizes) and samples >= sum(sizes)):
        too_long = on_cpu and max(sizes) > ROWS
        if too_long and _has_free_rows(objective, sizes):
            return Part(on_batches(objective, shorter(objective.batches)))
        return Part(objective)
    source = torch.Generator().manual_seed(seed)
    if not _has_free_rows(objective, sizes):
        return _whole_batches(objective, samples, source, terms)
    drawn = torch.randperm(row_count(objective), generator=source, device="cpu")[
        :samples
    ]
    rows = min(max(*sizes, LEAST_ROWS), ROWS) if on_cpu else max(sizes)
    return Part(regrouped(objective, torch.split(drawn.sort().values, rows)))


def shorter(batches: Sequence[Any]) -> list[Any]:
    """Batches of at most 256 rows: views of those that are longer."""
    parts: list[Any] = []
    for batch in batches:
        for start in range(0, rows_of(batch) or 0, ROWS):
            cut = slice(start, start + ROWS)
            parts.append(tree_map(lambda t, cut=cut: t[cut], batch))
    return parts


def _has_free_rows(objective: Objective, sizes: Sequence[int]) -> bool:
    # In mode "train" rows of a batch share statistics and random masks.
    return (
        objective.mode != "train"
        and all(sizes)
        and joinable(objective.batches)
        and is_row_by_row(objective)
    )


def _whole_batches(
    objective: Objective, samples: int, source: torch.Generator, terms: Sequence[int]
) -> Part:
    chosen: list[int] = []
    count = 0
    for index in torch.randperm(len(terms), generator=source, device="cpu").tolist():
        if count >= samples and len(chosen) >= LEAST_BATCHES:
            break
        chosen.append(index)
        count += terms[index]
    if len(chosen) == len(terms):
        return Part(objective)
    chosen.sort()
    part = on_batches(objective, [objective.batches[index] for index in chosen])
    part.numbers = [objective.numbers[index] for index in chosen]
    return Part(part, by_batch=True)
