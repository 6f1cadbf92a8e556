"""The micro-batches between two optimizer steps, and the pieces a pass needs.

All micro-batches of a window together are the batch of the step: a method that
evaluates shares of a batch gets shares of the rows of the window, as of a large batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from numbers import Number
from typing import Any

import torch
from torch import Tensor

from steppe.stepping.driver import AbstractOptimizer
from steppe.torch_internals import tree_leaves, tree_map


@dataclass(frozen=True)
class Piece:
    """A micro-batch, or those of its rows that a pass is about."""

    batch: Any
    index: int  # of the micro-batch in its window
    part: float = 1.0  # of the rows of the micro-batch that are here
    weight: float = 1.0  # of the loss that the trainer takes for a whole micro-batch's


def steppe_optimizer(optimizer: Any) -> AbstractOptimizer | None:
    """The steppe optimizer in the wrapper of a trainer; None for any other."""
    inner = getattr(optimizer, "optimizer", optimizer)
    return inner if isinstance(inner, AbstractOptimizer) else None


def pieces(opt: AbstractOptimizer, window: Sequence[Any]) -> list[Piece]:
    """Pieces of micro-batches that the present pass of an optimizer evaluates.

    Args:
        opt: inside its `passes()` loop.
        window: micro-batches, nested lists and dicts of tensors with rows along dim 0.

    Returns:
        In the order of the window, without micro-batches that the pass leaves out.

    Raises:
        UsageError: a micro-batch that cannot be shared out, where a share is wanted.
    """
    sizes = [_rows(batch) for batch in window]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return [Piece(opt.take(batch), i) for i, batch in enumerate(window)]
    # The optimizer splits row numbers as it would split a batch: the answer says which
    # rows of which micro-batches the pass wants, without joining tensors.
    total = sum(known)
    wanted = opt.take(torch.arange(total, device="cpu"))
    if len(wanted) == total:
        return [Piece(batch, i) for i, batch in enumerate(window)]
    first, last = int(wanted[0]), int(wanted[-1]) + 1
    pieces = []
    for i, (size, end) in enumerate(zip(known, accumulate(known), strict=True)):
        low, high = max(first - end + size, 0), min(last - end + size, size)
        if low < high:
            part = (high - low) / size
            # The trainer divides by the number of micro-batches; a piece counts by its
            # share of the rows of this pass instead.
            weight = (high - low) * total / (size * len(wanted))
            pieces.append(Piece(_between(window[i], low, high), i, part, weight))
    return pieces


def _rows(batch: Any) -> int | None:
    """Rows that all tensors of a batch have; None where it cannot be shared out."""
    leaves = tree_leaves(batch)
    rows = {len(x) for x in leaves if isinstance(x, Tensor) and x.dim() > 0}
    plain = all(isinstance(x, Tensor | Number) for x in leaves)
    return rows.pop() if plain and len(rows) == 1 else None


def _between(batch: Any, low: int, high: int) -> Any:
    def cut(leaf: Any) -> Any:
        batched = isinstance(leaf, Tensor) and leaf.dim() > 0
        return leaf[low:high] if batched else leaf

    return tree_map(cut, batch)
