"""Samples of an objective: rows of its batches, taken apart and put together anew.

Shape letters: B rows of a batch, N rows of all batches.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steppe.errors import DataError, UsageError
from steppe.losses import FAILURES
from steppe.measuring.model_state import apart
from steppe.objective import Objective
from steppe.torch_internals import tree_leaves, tree_map

WITH_ROWS = (
    "give batches whose tensors have one row for each sample along dimension 0, such "
    "as a tuple (inputs, targets)"
)


def rows_of(batch: Any) -> int | None:
    """Length that all tensors of a batch have along dimension 0; None if none."""
    leaves = tree_leaves(batch)
    if not all(isinstance(t, Tensor) and t.dim() and not t.is_sparse for t in leaves):
        return None
    lengths = {len(t) for t in leaves}
    return lengths.pop() if len(lengths) == 1 else None


def take_rows(batch: Any, rows: Tensor) -> Any:
    """Some rows of a batch that has rows, by their numbers."""
    return tree_map(lambda t: t[rows.to(t.device)], batch)


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
    parts = [take_rows(batch, torch.arange(half))]
    parts.append(take_rows(batch, torch.arange(half, rows_of(batch) or 0)))
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
    sizes = torch.tensor([rows_of(batch) or 0 for batch in objective.batches])
    ends = sizes.cumsum(0)
    batches = [gathered(objective.batches, g, ends) for g in groups]
    return on_batches(objective, batches)


def joinable(batches: Sequence[Any]) -> bool:
    """Whether rows of all batches can stand in one: they have one shape and dtype."""
    forms = [
        [(t.dtype, t.shape[1:]) for t in tree_leaves(batch)]
        for batch in batches
        if rows_of(batch) is not None
    ]
    return len(forms) == len(batches) and all(form == forms[0] for form in forms)


def gathered(batches: Sequence[Any], group: Tensor, ends: Tensor) -> Any:
    """Rows of several batches, in the order of their numbers in the group.

    Args:
        batches: of the data.
        group: numbers of rows, counted over all batches in their order.
        ends: of each batch among these numbers.

    Raises:
        DataError: rows of different batches differ in their shapes or structure.
    """
    owners = torch.searchsorted(ends, group, right=True)
    parts, places = [], []
    for owner in sorted(set(owners.tolist())):
        (inside,) = torch.where(owners == owner)
        rows = group[inside] - (ends[owner - 1] if owner else 0)
        parts.append(take_rows(batches[owner], rows))
        places.append(inside)
    order = torch.cat(places).argsort()
    try:
        joined = tree_map(lambda *leaves: torch.cat(leaves), *parts)
    except FAILURES as error:
        raise DataError(
            "batches of other samples need rows of one shape and structure in all "
            "batches; pad them to one length."
        ) from error
    return take_rows(joined, order)


def _losses(objective: Objective, batches: list[Any]) -> Tensor:
    """Loss terms on some batches, in the order of their size."""
    full = [batch for batch in batches if rows_of(batch)]
    return on_batches(objective, full).losses().double().sort().values
