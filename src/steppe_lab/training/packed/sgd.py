"""The step of stochastic gradient descent for all members of a pack.

Each member's own lr, momentum, weight decay and nesterov are those in the group of its
base. One fused kernel for each member goes through memory once.

Shape letters: K members, P parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.torch_internals import fused_sgd_

_MOMENTUM = "momentum_buffer"  # as torch.optim.SGD names it in its state


class PackedSGD:
    """Takes the steps of the bases of all members.

    Args:
        params: P tensors (K, *shape) that are stepped.
        bases: of each member, over the rows of these tensors; their momenta become
            rows of the memory here.
    """

    def __init__(self, params: Sequence[Tensor], bases: Sequence[Optimizer]) -> None:
        self._bases = bases
        self._rows = _rows(params)
        momenta = [torch.zeros_like(p) for p in params]
        self._momenta = _rows(momenta)
        for base, rows in zip(bases, self._momenta, strict=True):
            (group,) = base.param_groups
            if not group["momentum"]:
                continue
            for p, row in zip(group["params"], rows, strict=True):
                known = base.state[p].get(_MOMENTUM)
                if known is not None:
                    row.copy_(known)
                base.state[p][_MOMENTUM] = row

    @torch.no_grad()
    def step(self, grads: Sequence[Tensor], rates: Sequence[float]) -> None:
        """Step with gradients (K, *shape), and a learning rate of each member."""
        each = zip(
            self._bases, self._rows, self._momenta, _rows(grads), rates, strict=True
        )
        for base, params, momenta, own, lr in each:
            group: dict[str, Any] = base.param_groups[0]
            fused_sgd_(
                params,
                own,
                momenta if group["momentum"] else [],
                lr=lr,
                momentum=group["momentum"],
                weight_decay=group["weight_decay"],
                nesterov=group["nesterov"],
            )


def give_momenta(base: Optimizer) -> None:
    """Give a base whose member leaves a pack momenta of its own."""
    for state in base.state.values():
        if _MOMENTUM in state:
            state[_MOMENTUM] = state[_MOMENTUM].clone()


def _rows(tensors: Sequence[Tensor]) -> list[tuple[Tensor, ...]]:
    """Tensors of each member, as views."""
    return list(zip(*[t.contiguous().unbind(0) for t in tensors], strict=True))
