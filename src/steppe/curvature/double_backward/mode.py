"""Faster double-backward rules for selected layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from steppe.curvature.double_backward import activations, convolution, layer_norm
from steppe.curvature.double_backward.corrections import corrected
from steppe.curvature.double_backward.engine import (
    SEES_HOOKS,
    forward_derivatives_active,
    no_other_mode,
    saved_tensor_hooks,
)
from steppe.torch_internals import transforms_active

# A rule takes what torch's function takes, and leaves a call to it by None.
RULES = {**convolution.RULES, **activations.RULES, **layer_norm.RULES}


class FastDoubleBackward(TorchFunctionMode):
    """While it is entered, layers that have a rule get its second derivatives.

    Those that torch gets wrong are always corrected. Of the others, what is out of the
    ordinary is left to torch: autocast, compiled parts, transforms of `torch.func`,
    forward derivatives, tensor subclasses, complex numbers, mixed dtypes, empty inputs,
    calls that another mode is to see; also what checkpointing would compute again,
    during a backward pass that this does not reach. Before torch 2.8 it is everything.
    """

    def __enter__(self) -> Self:
        self._hooks = saved_tensor_hooks()
        self._alone = no_other_mode(FastDoubleBackward)
        enter: Any = super().__enter__
        enter()
        return self

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = RULES.get(func)
        if rule and self._reaches() and _ordinary((*args, *kwargs.values())):
            output = rule(*args, **kwargs)
            if output is not None:
                return output
        output = corrected(func, args, kwargs)
        return func(*args, **kwargs) if output is None else output

    def _reaches(self) -> bool:
        """Whether no other mode or hook intercepts calls or saved tensors."""
        if not SEES_HOOKS or not self._alone or torch.compiler.is_dynamo_compiling():
            return False
        return bool(saved_tensor_hooks() == self._hooks)


def _ordinary(arguments: Iterable[Any]) -> bool:
    """Whether the tensors are plain ones of one dtype, whose derivative is wanted."""
    tensors = [each for each in arguments if isinstance(each, Tensor)]
    return (
        torch.is_grad_enabled()
        and any(t.requires_grad for t in tensors)
        and all(type(t) in (Tensor, nn.Parameter) for t in tensors)
        and len({t.dtype for t in tensors}) == 1
        and all(t.layout == torch.strided and t.numel() for t in tensors)
        and tensors[0].is_floating_point()
        and not forward_derivatives_active()
        and not torch.is_autocast_enabled(tensors[0].device.type)
        and not transforms_active()
    )
