"""Names that torch calls private, for all rooms but `curvature`.

Torch may change them without notice, so each of them is used in one file alone. Those
of the autograd engine are in `curvature/double_backward/engine.py`, those that nodes
save in `graphs/graph_attributes.py`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase as NormBase
from torch.nn.modules.instancenorm import _InstanceNorm as InstanceNorm
from torch.utils._pytree import tree_leaves, tree_map

__all__ = [
    "InstanceNorm",
    "NormBase",
    "buffer_table",
    "fused_sgd_",
    "has_hooks",
    "is_compiled",
    "parameter_table",
    "transforms_active",
    "tree_leaves",
    "tree_map",
    "version",
    "without_compiler",
]


def transforms_active() -> bool:
    """Whether a transform of `torch.func` is at work."""
    return torch._C._are_functorch_transforms_active()


def version(tensor: Tensor) -> int:
    """Number of writes in place to a tensor so far."""
    return tensor._version


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Let optimizers be made without the import of torch's compiler.

    Torch imports it, which takes a second or two, to keep one of their methods out of
    compiled code; so nothing is to be compiled in the block.
    """
    method = getattr(torch.optim.Optimizer.add_param_group, "__wrapped__", None)
    if method is None or "torch._dynamo" in sys.modules:
        yield
        return
    # The place where torch notes the method that it has taken out.
    note = "__dynamo_disable"
    setattr(method, note, method)
    try:
        yield
    finally:
        delattr(method, note)


def fused_sgd_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    momenta: Sequence[Tensor],
    *,
    lr: float,
    momentum: float,
    weight_decay: float,
    nesterov: bool,
) -> None:
    """One step of SGD in place, each number read once.

    Args:
        params: dense and contiguous.
        grads: of them.
        momenta: of them, zeros before the first step; empty without momentum.
        lr: learning rate.
        momentum: decay of the momenta.
        weight_decay: coefficient of the parameters that is added to the gradients.
        nesterov: whether the step looks ahead along the momenta.
    """
    torch._fused_sgd_(
        list(params),
        list(grads),
        list(momenta),
        weight_decay=weight_decay,
        momentum=momentum,
        lr=lr,
        dampening=0.0,
        nesterov=nesterov,
        maximize=False,
        is_first_step=False,
    )


# Writing to a table leaves out `__setattr__` of the module, which a user may have
# overridden, and which refuses a name that a parametrization has taken.


def parameter_table(module: nn.Module) -> dict[str, Any]:
    """A module's own parameters by name, None among them; writing to it sets one."""
    return module._parameters


def buffer_table(module: nn.Module) -> dict[str, Any]:
    """A module's own buffers by name, None among them; writing to it sets one."""
    return module._buffers


def has_hooks(module: nn.Module) -> bool:
    """Whether something is called before or after the module's own forward pass."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def is_compiled(module: nn.Module) -> bool:
    """Whether a module is, or calls, code that `torch.compile` made."""
    return "_orig_mod" in dict(module.named_children()) or bool(
        getattr(module, "_compiled_call_impl", None)
    )
