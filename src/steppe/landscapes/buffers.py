"""Buffers along a line, such as the running statistics of batch norm.

They belong to the weights as much as the parameters do: statistics of one network in
another one give a loss that is neither's. Interpolating them with the weights is the
"states" direction of Li et al., 2018, arXiv:1712.09913, in the published code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from steppe.errors import SettingError

BatchNorm = Literal["interpolate", "freeze"] | Callable[[nn.Module], object]


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all buffers by name; a shared one counts once."""
    return {name: b.detach().clone() for name, b in model.named_buffers()}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes by name."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def mode_of(batch_norm: BatchNorm, *, moving: bool) -> str:
    """The mode by name; buffers that are the same all along a line are frozen.

    Raises:
        SettingError: neither a mode nor a function of the model.
    """
    if callable(batch_norm):
        return "reestimate"
    if batch_norm not in ("interpolate", "freeze"):
        raise SettingError(
            "batch_norm must be 'interpolate', 'freeze' or a function of the model "
            f"that re-estimates its statistics, got {batch_norm!r}."
        )
    # Two names for one computation would make equal surfaces look different.
    return batch_norm if moving else "freeze"


def check_same(
    wanted: Mapping[str, torch.Size], present: Mapping[str, torch.Size], kind: str
) -> None:
    """Refuse tensors of other names or shapes than those of a subspace.

    Args:
        wanted: shapes by name in one model.
        present: the same in the other.
        kind: noun for the message, such as "parameters".

    Raises:
        SettingError: the first name or shape that differs.
    """
    # Both orders: a name may be missing on either side.
    for name in [*wanted, *present]:
        left, right = wanted.get(name), present.get(name)
        if left != right:
            raise SettingError(
                f"the models must have the same {kind}: {name} is {_show(left)} "
                f"in one and {_show(right)} in the other."
            )


def _show(shape: torch.Size | None) -> str:
    return "missing" if shape is None else f"of shape {tuple(shape)}"
