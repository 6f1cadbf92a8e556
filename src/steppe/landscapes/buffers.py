"""Buffers in a subspace, such as the running statistics of batch norm.

They belong to the weights as much as the parameters do: statistics of one network in
another one give a loss that is neither's. Interpolating them with the weights is the
"states" direction of Li et al., 2018, arXiv:1712.09913, in the published code; their
"weights" direction freezes them. Between networks neither is the statistics of the data
at the weights, which Izmailov et al., 2018, arXiv:1803.05407, re-estimate.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from steppe.errors import SettingError, brief

Mode = Literal["freeze", "interpolate", "reestimate"]
Buffers = Mapping[str, Tensor]  # by name
BatchNorm = Mode | Callable[[nn.Module], object]


def buffers_of(model: nn.Module) -> dict[str, Tensor]:
    """Copies of all buffers by name; a shared one counts once."""
    return {name: b.detach().clone() for name, b in model.named_buffers()}


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Shapes by name."""
    return {name: tensor.shape for name, tensor in tensors.items()}


def check_batch_norm(batch_norm: object) -> None:
    """Refuse anything but a mode of batch norm or a function of the model."""
    if not callable(batch_norm) and batch_norm not in get_args(Mode):
        raise SettingError(
            "batch_norm must be 'freeze', 'interpolate', 'reestimate' or a function of "
            f"the model that re-estimates its statistics, got {brief(batch_norm)}."
        )


def mode_of(batch_norm: BatchNorm, *, moving: bool, statistics: bool) -> Mode | None:
    """The mode by name; None where it makes no difference.

    Args:
        batch_norm: as asked for.
        moving: some buffers are others at other points of the subspace.
        statistics: the model evaluates with running statistics.
    """
    if not statistics and not moving:
        return None
    if callable(batch_norm):
        return "reestimate"
    if batch_norm == "reestimate":
        # Without statistics there is nothing to estimate, and other buffers move.
        return "reestimate" if statistics else "interpolate"
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
