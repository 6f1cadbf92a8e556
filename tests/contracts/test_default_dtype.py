"""Numbers that do not depend on torch's default dtype, only on that of the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

import steppe

NAMES = ["top_eigenvalue", "trace"]


@contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_measures_draw_the_same_numbers_whatever_the_default_dtype(dtype):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    data = (torch.randn(12, 3), torch.arange(12) % 2)
    objective = steppe.Objective(model, data)
    expected = [e.value for e in steppe.measure(objective, NAMES).values()]
    with _default(dtype):
        found = steppe.measure(steppe.Objective(model, data), NAMES)
        decisions = [steppe.gates.Sometimes(0.5).opens(step) for step in range(20)]
    assert [e.value for e in found.values()] == expected
    assert decisions == [steppe.gates.Sometimes(0.5).opens(step) for step in range(20)]
