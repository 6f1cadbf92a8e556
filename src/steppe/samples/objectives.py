"""Objectives on other batches of the same samples.

Shape letters: N rows of all batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.losses import FAILURES
from steppe.measuring.model_state import apart
from steppe.objective import Objective
from steppe.samples.rows import gathered, rows_of, take_rows

WITH_ROWS = (
    "give batches whose tensors have one row for each sample along dimension 0, such "
    "as a tuple (inputs, targets)"
)


def on_batches(objective: Objective, batches: list[Any]) -> Objective:
    """The objective on other batches."""
    return Objective(
        objective.model,
        batches,
        objective.loss,
        mode=objective.mode,
        seed=objective.seed,
        penalty=objective.penalty,
        about=objective.about,
    )


def is_row_by_row(objective: Objective) -> bool:
    """Whether the losses of the longest batch are those of its halves.

    The two forward passes are no part of the objective's cost.
    """
    batch = max(objective.batches, key=lambda batch: rows_of(batch) or 0)
    half = (rows_of(batch) or 0) // 2
    parts = [take_rows(batch, torch.arange(half, device="cpu"))]
    parts.append(
        take_rows(batch, torch.arange(half, rows_of(batch) or 0, device="cpu"))
    )
    try:
        together, alone = _losses(objective, [batch]), _losses(objective, parts)
    except FAILURES:  # a model of batches of one size
        return False
    return not apart(together, alone, objective.dtype)


def row_count(objective: Objective) -> int:
    """Number N of rows in all batches.

    Raises:
        UsageError: a batch has no rows.
    """
    counts = [rows_of(batch) for batch in objective.batches]
    known = [count for count in counts if count is not None]
    if len(known) < len(counts):
        raise UsageError(
            "batches of other samples need the rows of all batches, but batch "
            f"{counts.index(None)} has none; {WITH_ROWS}."
        )
    return sum(known)


def regrouped(objective: Objective, groups: Sequence[Tensor]) -> Objective:
    """The objective on batches of other rows.

    Args:
        objective: on all of the data.
        groups: numbers of the rows of each new batch, counted over all batches in
            their order; a row may be in several of them, or in none.

    Raises:
        UsageError: a batch has no rows.
        DataError: rows of different batches differ in their shapes or structure.
    """
    row_count(objective)
    sizes = torch.tensor(
        [rows_of(batch) or 0 for batch in objective.batches], device="cpu"
    )
    ends = sizes.cumsum(0)
    batches = [gathered(objective.batches, g, ends) for g in groups]
    return on_batches(objective, batches)


def _losses(objective: Objective, batches: list[Any]) -> Tensor:
    """Loss terms on some batches, in the order of their size."""
    full = [batch for batch in batches if rows_of(batch)]
    return on_batches(objective, full).losses().double().sort().values
