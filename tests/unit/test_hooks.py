"""Hooks of the driver: which there are, in which order, and what a method sees."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch

import steppe
from steppe.stepping.context import GradientRequest, Plan, StepContext
from steppe.stepping.driver import AbstractOptimizer
from steppe.stepping.hooks.abstract import AbstractHook


class Shares(AbstractOptimizer):
    """Reads the gradient when all shares of the batch have been evaluated."""

    bounds: ClassVar = {}

    def __init__(self, base: torch.optim.Optimizer, **options: Any) -> None:
        super().__init__(base, settings={}, **options)

    def plan(self, step: StepContext) -> Plan:
        for part in range(4):
            yield GradientRequest(part, 4)
        self.seen = [g.clone() for g in step.gradients().values()]


def network() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.BatchNorm1d(3)).double()


def names_of(options: dict[str, Any], *, accumulate: bool = False) -> list[str]:
    """Names of the hooks of one loop."""
    model = network()
    options = {k: model if k == "model" else v for k, v in options.items()}
    opt = steppe.SAM(torch.optim.SGD(model.parameters(), lr=0.1), **options)
    loop: Any = opt.passes(accumulate=accumulate)
    next(loop)
    hooks: list[AbstractHook] = loop.gi_frame.f_locals["hooks"]
    return [type(hook).__name__ for hook in hooks]


@pytest.mark.parametrize("rows", [8, 7, 3, 1])
def test_a_method_sees_the_mean_over_the_batch_after_the_last_share(rows):
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 1).double(), torch.randn(rows, 3).double()
    plain = copy.deepcopy(model)
    opt = Shares(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in opt.passes():
        model(opt.take(x)).square().mean().backward()
    plain(x).square().mean().backward()
    expected = [p.grad for p in plain.parameters()]
    torch.testing.assert_close(opt.seen, expected, rtol=1e-12, atol=1e-14)


CASES: list[tuple[dict[str, Any], bool, list[str]]] = [
    ({}, False, ["MicroBatches", "StateCommit"]),
    ({}, True, ["MicroBatches", "Accumulation", "StateCommit"]),
    ({"model": ..., "batch_norm": "all"}, False, ["MicroBatches", "StateCommit"]),
    ({"model": ...}, False, ["MicroBatches", "StateCommit", "Buffers"]),
    (
        {"scaler": torch.amp.GradScaler("cpu", enabled=False)},
        False,
        ["MicroBatches", "StateCommit"],
    ),
    (
        {"rng": "replay", "monitor": True, "scaler": torch.amp.GradScaler("cpu")},
        False,
        ["MicroBatches", "StateCommit", "LossScale", "Monitor", "ReplayedDraws"],
    ),
]


@pytest.mark.parametrize(("options", "accumulate", "expected"), CASES)
def test_hooks_that_have_nothing_to_do_are_left_out(options, accumulate, expected):
    assert names_of(options, accumulate=accumulate) == expected
