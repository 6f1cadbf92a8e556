"""Rows of batches, taken out and put together anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from steppe.errors import DataError
from steppe.losses import FAILURES
from steppe.torch_internals import tree_leaves, tree_map


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
