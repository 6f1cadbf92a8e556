"""Number of members that a pack has room for: the size of one, and a budget."""

from __future__ import annotations

import math
import os
from pathlib import Path

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe_lab.datasets import Split
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.training.build import build_model
from steppe_lab.training.recipe import Recipe

BUDGET = "STEPPE_PACK_MEMORY"  # bytes that a pack may take
_SHARE = 0.25  # of the memory that is available, where nothing is said
_PLAIN = 2**30  # bytes, where the system does not tell
# Copies of the weights: themselves, gradients, momenta, moved ones, a draw of noise,
# and one of temporaries.
_COPIES = 6
_MEMORY = Path("/proc/meminfo")


def most_members(recipe: Recipe, split: Split) -> int:
    """Members of a pack that the budget has room for, at least 1.

    Args:
        recipe: of one of them.
        split: samples to train on.

    Raises:
        SettingError: a budget that is no number of bytes.
    """
    return max(int(budget() // bytes_of_member(recipe, split)), 1)


def bytes_of_member(recipe: Recipe, split: Split) -> int:
    """Memory of one member: copies of its weights, and activations of a batch.

    The latter is measured on two samples.
    """
    model = build_model(recipe, split.in_shape, split.outputs)
    weights = sum(p.nbytes for p in model.parameters())
    task: AbstractTask = TASKS.build(split.task)
    inputs, targets = split.train.batch(slice(0, 2))
    kept: dict[int, int] = {}
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.random.fork_rng(devices=[]):
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda each: each):
            task.loss(model(inputs), targets, reduction="mean")
    # Twice: the gradients of activations are as large.
    return _COPIES * weights + sum(kept.values()) * recipe.batch_size


def budget() -> float:
    """Bytes that a pack may take."""
    text = os.environ.get(BUDGET)
    if text is None:
        return available() * _SHARE
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not value > 0:
        raise SettingError(
            f"{BUDGET} must be a number of bytes above 0, got '{text}'; give one such "
            "as 1e9."
        )
    return value


def available() -> float:
    """Bytes of memory that no program uses."""
    try:
        lines = _MEMORY.read_text().splitlines()
    except OSError:
        return _PLAIN / _SHARE
    sizes = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return float(sizes[0]) * 1024 if sizes else _PLAIN / _SHARE
