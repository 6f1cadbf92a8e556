"""Every registered optimizer, as a parameter of tests, and how they build it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import loops
from steppe.optimizers import OPTIMIZERS

EVERY = pytest.mark.parametrize("entry", list(OPTIMIZERS), ids=lambda entry: entry.name)


def make(entry: Any, base: Any, **more: Any) -> Any:
    return entry.make(base, **{**entry.spec.example, **more})


def setting(entry: Any) -> str:
    return next(iter(entry.make.bounds))


def one_batch() -> tuple[torch.Tensor, torch.Tensor]:
    return next(loops.batches(1))


def passes_once(opt: Any, model: nn.Module) -> None:
    x, y = one_batch()
    for _ in opt.passes():
        xs, ys = opt.take(x, y)
        F.cross_entropy(model(xs), ys).backward()
