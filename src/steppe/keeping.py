"""What the driver keeps aside between passes: gradients and random state."""

from __future__ import annotations

from numbers import Number
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from steppe.errors import UsageError


def scale_grads(params: list[Tensor], factor: float) -> None:
    grads = [p.grad for p in params if p.grad is not None]
    if grads:
        torch._foreach_mul_(grads, factor)


Running = tuple[Tensor | None, int]  # a gradient summed so far, and its version


def running_sums(params: list[Tensor]) -> list[Running]:
    """What the earlier shares of a batch left in `p.grad`."""
    return [(p.grad, -1 if p.grad is None else p.grad._version) for p in params]


def regain_sums(params: list[Tensor], kept: list[Running]) -> bool:
    """Add back sums that a closure dropped by setting gradients to None.

    Returns:
        Whether any gradient is new since `kept` was taken.
    """
    changed = False
    for p, (old, version) in zip(params, kept, strict=True):
        if p.grad is old:
            changed |= old is not None and old._version != version
        elif old is None:
            changed = True
        else:
            changed |= p.grad is not None
            p.grad = old if p.grad is None else old.add_(p.grad)
    return changed


def add_running(
    params: list[Tensor], running: list[Tensor | None], *, add: bool
) -> None:
    for p, old in zip(params, running, strict=True):
        if not add or p.grad is None:
            p.grad = old
        elif old is not None:
            p.grad = old.add_(p.grad)


def common_rows(batch: Any) -> int:
    """Number of rows of all tensors of a batch, which must be the same.

    Raises:
        UsageError: tensors of several lengths, none at all, or something that cannot be
            shared out, such as a list of texts.
    """
    leaves = tree_leaves(batch)
    strange = [type(x).__name__ for x in leaves if not isinstance(x, Tensor | Number)]
    if strange:
        raise UsageError(
            f"take() shares out tensors along their rows, got {strange[0]}; "
            "give it the tensors of the batch alone."
        )
    rows = {len(x) for x in leaves if isinstance(x, Tensor) and x.dim() > 0}
    if len(rows) != 1:
        raise UsageError(
            f"take() needs tensors with one number of rows, got {sorted(rows)}; "
            "leave out what is not per row, such as class weights."
        )
    if 0 in rows:
        raise UsageError("take() got a batch without rows; skip empty batches.")
    return rows.pop()


class RandomState:
    """Torch's generators at the first pass, to replay its draws in later ones."""

    def __init__(self, params: list[Tensor]) -> None:
        self._cpu = torch.get_rng_state()
        devices = {p.device for p in params if p.is_cuda}
        self._cuda = {d: torch.cuda.get_rng_state(d) for d in devices}

    def put_back(self) -> None:
        torch.set_rng_state(self._cpu)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)
