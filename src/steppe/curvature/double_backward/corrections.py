"""Layers whose second derivatives torch gets wrong, from operations it gets right.

Weight norm: on a CPU, torch's fused operation has a backward pass that is not the
derivative of its own. Batch norm in evaluation mode with a bias and no weight: its
double backward fails.

Where derivatives come from more than a backward pass, the row of an embedding that
stands for padding moves like the others, though its gradient is zero by definition:
there it has to be held.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from steppe.curvature.double_backward.engine import WEIGHT_NORM, Rule


class Corrections(TorchFunctionMode):
    """While it is entered, layers that have a correction get it."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        output = corrected(func, args, kwargs or {})
        return func(*args, **(kwargs or {})) if output is None else output


def padded_tables(model: nn.Module) -> set[Tensor]:
    """Weights of embeddings that have a row for padding."""
    layers = (m for m in model.modules() if isinstance(m, nn.Embedding))
    return {m.weight for m in layers if m.padding_idx is not None}


@contextmanager
def constant_padding(tables: Sequence[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Let rows for padding have their values in another table, as constants.

    Args:
        tables: the weights of embeddings, each with the table to take the row from.
    """
    if not tables:
        yield
        return
    with _ConstantPadding({id(moved): fixed.detach() for moved, fixed in tables}):
        yield


class _ConstantPadding(TorchFunctionMode):
    def __init__(self, fixed: dict[int, Tensor]) -> None:
        super().__init__()
        self._fixed = fixed

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if func is F.embedding:
            return self._look_up(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))

    def _look_up(
        self,
        input: Tensor,
        weight: Tensor,
        padding_idx: int | None = None,
        *settings: Any,
        **named: Any,
    ) -> Tensor:
        fixed = self._fixed.get(id(weight))
        if fixed is None or padding_idx is None:
            return F.embedding(input, weight, padding_idx, *settings, **named)
        # Without padding_idx the table has derivatives in all rows; those of padding
        # are taken from the constant table instead.
        padding = (input == padding_idx % len(fixed)).unsqueeze(-1)
        rows = F.embedding(input, weight, None, *settings, **named)
        held: Tensor = torch.where(padding, F.embedding(input, fixed), rows)
        return held


def corrected(func: Any, args: Any, kwargs: Any) -> Tensor | None:
    """Corrected result of a call to a function of torch; None where torch is right."""
    rule: Rule | None = RULES.get(func)
    return None if rule is None else rule(*args, **kwargs)


def _weight_norm(v: Tensor, g: Tensor, dim: int = 0) -> Tensor:
    others = None if dim == -1 else [d for d in range(v.dim()) if d != dim % v.dim()]
    norm = torch.linalg.vector_norm(v, dim=others, keepdim=others is not None)
    weight: Tensor = v * (g / norm)
    return weight


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *settings: Any,
    **named: Any,
) -> Tensor | None:
    if weight is not None or bias is None:
        return None
    # With ones for the missing weight, torch's double backward works.
    arguments = (running_mean, running_var, torch.ones_like(bias), bias)
    return F.batch_norm(input, *arguments, *settings, **named)


RULES: dict[Any, Rule] = {WEIGHT_NORM: _weight_norm, F.batch_norm: _batch_norm}
