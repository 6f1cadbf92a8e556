"""The network as the steps of a training call it: its memory format, its compiler.

The network itself stays as it was built. Scores, averages, eigenvalues and checkpoints
are of that one, whose weights are the same tensors.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import shutil
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from steppe.errors import SettingError
from steppe.torch_internals import tree_leaves, tree_map
from steppe_lab.training.recipe import Recipe

COMPILER = "inductor"  # backend of torch.compile
_IMAGES = 4  # dimensions of a batch of them


def called_network(model: nn.Module, recipe: Recipe) -> nn.Module:
    """The module that a step calls in place of a network.

    Args:
        model: with its initial weights, which are laid out anew in place.
        recipe: says how.
    """
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if not recipe.compile:
        return model
    compiled: Any = torch.compile(model, backend=COMPILER)
    return compiled  # type: ignore[no-any-return]


def parallel_network(called: nn.Module, inputs: Any) -> DistributedDataParallel:
    """A network whose gradients are averaged over processes.

    Args:
        called: the same in every process; its weights become those of the first one.
        inputs: of two samples, to see which parameters have a gradient.
    """
    params = [p for p in called.parameters() if p.requires_grad]
    called.eval()
    outputs = [x.sum() for x in tree_leaves(called(inputs)) if isinstance(x, Tensor)]
    grads = torch.autograd.grad(outputs, params, allow_unused=True)
    # Buffers are shared once for each step, not in its passes: see `share_buffers`.
    names = (
        "forward_sync_buffers",
        "broadcast_buffers",
    )  # before torch 2.13 the second
    known = inspect.signature(DistributedDataParallel).parameters
    unshared: dict[str, Any] = {next(name for name in names if name in known): False}
    unused = any(grad is None for grad in grads)
    return DistributedDataParallel(called, find_unused_parameters=unused, **unshared)


def channels_last(inputs: Any) -> Any:
    """Inputs whose images lie with their channels last in memory."""

    def laid_out(leaf: Any) -> Any:
        images = isinstance(leaf, Tensor) and leaf.dim() == _IMAGES
        return leaf.to(memory_format=torch.channels_last) if images else leaf

    return tree_map(laid_out, inputs)


def check_network_settings(recipe: Recipe, in_shape: tuple[int, ...]) -> None:
    """Refuse ways of calling a network that its inputs or this machine do not allow.

    Raises:
        SettingError: channels last without images, or no compiler for torch.compile.
    """
    if recipe.channels_last and len(in_shape) != _IMAGES - 1:
        raise SettingError(
            "channels_last needs images of shape (channels, height, width), got "
            f"samples of shape {in_shape}; leave it out."
        )
    missing = missing_compiler(recipe.device) if recipe.compile else ""
    if missing:
        raise SettingError(
            f"compile needs {missing} on {recipe.device}, which is not there; install "
            "it, or leave --compile out."
        )


def missing_compiler(device: str) -> str:
    """The program that torch.compile lacks for a device; "" for none."""
    kind = torch.device(device).type
    if kind == "cuda" and importlib.util.find_spec("triton") is None:
        return "triton"
    variable, usual = {
        "cpu": ("CXX", ("g++", "clang++", "c++")),
        "cuda": ("CC", ("gcc", "clang", "cc")),
    }.get(kind, ("", ()))
    names = (os.environ.get(variable, ""), *usual)
    if usual and not any(name and shutil.which(name) for name in names):
        return "a C++ compiler" if kind == "cpu" else "a C compiler"
    return ""
