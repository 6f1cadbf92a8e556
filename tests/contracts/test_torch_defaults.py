"""Numbers that do not depend on torch's default dtype and device."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import steppe

NAMES = ["top_eigenvalue", "trace", "lpf:samples=2"]


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _objective() -> steppe.Objective:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return steppe.Objective(model, (torch.ones(12, 3).tril(), torch.arange(12) % 2))


def _measured(objective: steppe.Objective) -> Sequence[float]:
    return [e.value for e in steppe.measure(objective, NAMES).values()]


def _decided(_: steppe.Objective) -> Sequence[bool]:
    return [steppe.gates.Sometimes(0.5).opens(step) for step in range(20)]


def _drawn(objective: steppe.Objective) -> Sequence[float]:
    plane = steppe.Plane.random(objective.model, seed=1)
    surface = steppe.landscape(objective, plane, x=(-1, 1, 3), y=(-1, 1, 3))
    return surface.loss.flatten().tolist()


def _compared(objective: steppe.Objective) -> Sequence[float]:
    model = copy.deepcopy(objective.model)
    model[0].weight.data.mul_(2)
    other = steppe.Objective(model, objective.batches)
    compared = steppe.compare(objective, other, ["loss"], groups=3)
    return compared["loss"].interval


USES: list[Callable[[steppe.Objective], Any]] = [_measured, _decided, _drawn, _compared]


@pytest.mark.parametrize("use", USES)
def test_results_do_not_follow_the_default_dtype(use):
    objective = _objective()
    expected = use(objective)
    for dtype in (torch.float64, torch.bfloat16):
        with _default(dtype):
            assert use(objective) == expected


@pytest.mark.parametrize("use", USES)
def test_results_do_not_follow_the_default_device(use):
    objective = _objective()
    expected = use(objective)
    with torch.device("meta"):  # as of a GPU, tensors there do not mix with others
        assert use(objective) == expected
