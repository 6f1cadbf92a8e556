"""Hooks of the driver: which there are, in which order, and what a method sees."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import pytest
import torch

import steppe
from steppe.errors import UsageError
from steppe.gates import LookingGate
from steppe.stepping.context import GradientRequest, Plan, StepContext
from steppe.stepping.driver import AbstractOptimizer
from steppe.stepping.loop import AbstractHook


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
    hooks: list[AbstractHook] = opt._hooks_of(accumulate)
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


class ScaledShares(AbstractOptimizer):
    """As `Shares`, of a method that is not to see the scale of the loss."""

    bounds: ClassVar = {}
    scale_free: ClassVar = False

    def __init__(self, base: torch.optim.Optimizer, **options: Any) -> None:
        super().__init__(base, settings={}, **options)

    def plan(self, step: StepContext) -> Plan:
        for part in range(4):
            yield GradientRequest(part, 4)
        self.seen = [g.clone() for g in step.gradients().values()]


@pytest.mark.parametrize("rows", [8, 7, 3, 1])
@pytest.mark.parametrize("clears", [False, True])
def test_the_scale_of_the_loss_is_out_of_a_sum_over_shares(rows, clears):
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 1).double(), torch.randn(rows, 3).double()
    plain = copy.deepcopy(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    opt = ScaledShares(torch.optim.SGD(model.parameters(), lr=0.1), scaler=scaler)
    for _ in opt.passes():
        if clears:  # as closures do
            model.zero_grad()
        scaler.scale(model(opt.take(x)).square().mean()).backward()
    plain(x).square().mean().backward()
    expected = [p.grad for p in plain.parameters()]
    torch.testing.assert_close(opt.seen, expected, rtol=1e-12, atol=1e-14)
    stepped = [p.grad / 1024.0 for p in model.parameters()]
    torch.testing.assert_close(stepped, expected, rtol=1e-12, atol=1e-14)


def test_shares_of_several_sizes_add_up_after_model_zero_grad():
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 1).double(), torch.randn(7, 3).double()
    plain = copy.deepcopy(model)
    opt = Shares(torch.optim.SGD(model.parameters(), lr=0.1))
    for _ in opt.passes():
        model.zero_grad()
        model(opt.take(x)).square().mean().backward()
    plain(x).square().mean().backward()
    expected = [p.grad for p in plain.parameters()]
    torch.testing.assert_close(opt.seen, expected, rtol=1e-12, atol=1e-14)


def test_a_share_of_another_size_without_a_gradient_is_refused():
    model, x = torch.nn.Linear(3, 1), torch.randn(7, 3)
    opt = Shares(torch.optim.SGD(model.parameters(), lr=0.1))
    loop = opt.passes()
    for _ in range(3):
        next(loop)
        model(opt.take(x)).square().mean().backward()
    next(loop)
    opt.take(x)
    with pytest.raises(UsageError, match="no parameter has a gradient after pass 4"):
        next(loop)


class Closed(LookingGate):
    """Never opens, and notes the squared length of the gradients."""

    def __init__(self) -> None:
        self.squared: list[float] = []

    def opens_for(self, squared: float, step: int, state: dict[str, float]) -> bool:
        self.squared.append(squared)
        return False


def test_a_gate_looks_at_the_whole_batch_of_a_method_that_splits_it():
    torch.manual_seed(0)
    model, x = torch.nn.Linear(3, 1).double(), torch.randn(8, 3).double()
    plain, gate = copy.deepcopy(model), Closed()
    opt = Shares(torch.optim.SGD(model.parameters(), lr=0.1), gate=gate)
    for _ in opt.passes():
        model(opt.take(x)).square().mean().backward()
    plain(x).square().mean().backward()
    grads = [p.grad for p in model.parameters()]
    expected = [p.grad for p in plain.parameters()]
    torch.testing.assert_close(grads, expected, rtol=1e-12, atol=1e-14)
    norm = torch.cat([g.flatten() for g in expected]).square().sum().item()
    assert gate.squared == [pytest.approx(norm)]


@pytest.mark.parametrize(("options", "accumulate", "expected"), CASES)
def test_hooks_that_have_nothing_to_do_are_left_out(options, accumulate, expected):
    assert names_of(options, accumulate=accumulate) == expected


def test_hooks_let_tensors_go_at_the_end_of_a_loop():
    model = network()
    opt = steppe.SAM(
        torch.optim.SGD(model.parameters(), lr=0.1), model=model, monitor=True
    )
    for accumulate in (False, True):
        for _ in opt.passes(accumulate=accumulate):
            model(torch.ones(2, 3).double()).sum().backward()
    hooks = {hook for hooks in opt._hooks.values() for hook in hooks}
    names = {type(hook).__name__ for hook in hooks}
    assert names == {
        "MicroBatches",
        "Accumulation",
        "StateCommit",
        "Buffers",
        "Monitor",
    }
    kept = {
        f"{type(hook).__name__}.{name}": value
        for hook in hooks
        for name, value in vars(hook).items()
        if name in ("_first", "_earlier", "_params", "_sums") and value
    }
    assert not kept
