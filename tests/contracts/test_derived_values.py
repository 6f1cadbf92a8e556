"""Tensors that torch computes from the weights and keeps are never of old weights."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

import loops
import process_jobs
import steppe
from steppe import compat
from steppe.averaging import AVERAGES, reestimate
from steppe.optimizers import OPTIMIZERS

Region = Callable[[], AbstractContextManager[Any]]

CAST = partial(torch.autocast, "cpu", torch.bfloat16)
UNCACHED = partial(CAST, cache_enabled=False)
KINDS: dict[str, tuple[Region, Region]] = {  # what keeps tensors, the same without
    "autocast": (CAST, UNCACHED),
    "parametrized": (parametrize.cached, nullcontext),
}
AROUND = ("passes", "step", "training")

EVERY = pytest.mark.parametrize("entry", list(OPTIMIZERS), ids=lambda entry: entry.name)
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)


def make_model(*, batch_norm: bool = False) -> nn.Module:
    """Weights that a parametrization computes, in the type that autocast casts."""
    model = loops.make_model(batch_norm=batch_norm)
    parametrizations.weight_norm(model[0])
    return model.float()


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    return [(x.float(), y) for x, y in loops.batches(count)]


def train(opt: Any, model: nn.Module, region: Region, around: str) -> list[Tensor]:
    """Three steps, with a region around each pass, loop, step, or around all of it."""

    def on(level: str) -> AbstractContextManager[Any]:
        return region() if level == around else nullcontext()

    with on("training"):
        for x, y in batches(3):
            with on("step"):
                with on("passes"):
                    for _ in opt.passes():
                        xs, ys = opt.take(x, y)
                        with on("pass"):
                            loss = F.cross_entropy(model(xs), ys)
                        loss.backward()
                opt.step()
    return loops.values(model)


@EVERY
@EVERY_KIND
@pytest.mark.parametrize("around", AROUND)
def test_a_region_that_keeps_derived_tensors_changes_no_step(entry, kind, around):
    ends = []
    for region, where in zip(KINDS[kind], (around, "pass"), strict=True):
        model = make_model()
        opt = entry.make(loops.base_for(entry, model), **entry.spec.example)
        ends.append(train(opt, model, region, where))
    assert loops.identical(*ends)


def two_calls(model: nn.Module, x: Tensor, y: Tensor, region: Region) -> None:
    opt = compat.SAM(model.parameters(), torch.optim.SGD, rho=1.0, lr=0.1)
    with region():
        for _ in range(2):
            F.cross_entropy(model(x), y).backward()
            opt.first_step(zero_grad=True)
            F.cross_entropy(model(x), y).backward()
            opt.second_step(zero_grad=True)


def closures(model: nn.Module, x: Tensor, y: Tensor, region: Region) -> None:
    opt = steppe.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=1.0)
    with region():
        for _ in range(2):
            loops.closure_step(opt, model, x, y)


@pytest.mark.parametrize("drive", [two_calls, closures])
@EVERY_KIND
def test_the_other_forms_of_a_step_are_not_changed_either(drive, kind):
    x, y = batches(1)[0]
    models = [make_model() for _ in range(2)]
    for model, region in zip(models, KINDS[kind], strict=True):
        drive(model, x, y, region)
    assert loops.identical(*map(loops.values, models))


def failing_step(opt: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    """A step that ends in an exception, with the weights uphill."""
    for index in opt.passes():
        F.cross_entropy(model(x), y).backward()
        if index == 1:
            model(x)
            raise MemoryError


@EVERY_KIND
def test_an_exception_in_a_pass_leaves_no_tensor_of_perturbed_weights(kind):
    x, y = batches(1)[0]
    model = make_model()
    opt = steppe.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=1.0)
    with KINDS[kind][0]():
        with pytest.raises(MemoryError):
            failing_step(opt, model, x, y)
        after = model(x)
    with KINDS[kind][1]():
        assert torch.equal(after, model(x))


@pytest.mark.parametrize("entry", list(AVERAGES), ids=lambda entry: entry.name)
@EVERY_KIND
def test_an_average_predicts_with_its_own_weights_and_the_model_with_its_own(
    entry, kind
):
    x = batches(1)[0][0]
    model, other = make_model(), make_model()
    average = entry.make(model, **entry.spec.example)
    for _ in range(7):
        for p in model.parameters():
            nn.init.normal_(p)
        average.update()
    scores = []
    for region in KINDS[kind]:
        with region():
            before = [model(x), other(x)]
            average.copy_to(other)
            with average.applied():
                inside = model(x)
            scores.append([*before, inside, other(x), model(x)])
            for p in other.parameters():
                nn.init.ones_(p)
    first, again = scores
    assert all(torch.equal(a, b) for a, b in zip(first[2:], again[2:], strict=True))
    assert not torch.equal(first[2], first[0])


@EVERY_KIND
def test_estimating_statistics_without_gradients_leaves_the_next_pass_its_own(kind):
    x, y = batches(1)[0]
    model = make_model(batch_norm=True)
    with KINDS[kind][0]():
        reestimate(model, [x])
        F.cross_entropy(model(x), y).backward()
    assert all(p.grad is not None for p in model.parameters())


def sharded_step(*, keeps: bool) -> list[Tensor]:
    """The weights after a step of a sharded model, which may keep what it gathered."""
    x, y = batches(1)[0]
    model = fully_shard(loops.make_model().float(), mesh=init_device_mesh("cpu", (1,)))
    model.set_reshard_after_backward(not keeps)
    opt = steppe.SAM(loops.momentum(model), rho=1.0, model=model)
    loops.loop_step(opt, model, x, y)
    model.reshard()
    return [p.to_local() for p in loops.values(model)]


def test_a_sharded_model_that_keeps_whole_parameters_gathers_the_moved_ones():
    with process_jobs.alone():
        expected, kept = sharded_step(keeps=False), sharded_step(keeps=True)
    assert loops.identical(kept, expected)


class Casting(nn.Module):
    """A network with an autocast of its own, which keeps its casts."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=True):
            return self.inner(x).float()


def lpf(objective: steppe.Objective) -> Tensor:
    (estimate,) = steppe.measure(objective, ["lpf:sigma=0.3,samples=4"]).values()
    return torch.tensor(estimate.value)


def landscape(objective: steppe.Objective) -> Tensor:
    line = steppe.Line.random(objective.model, seed=0)
    return steppe.landscape(objective, line, x=(-1, 1, 5)).loss


@pytest.mark.parametrize("measured", [lpf, landscape])
@pytest.mark.parametrize("kind", [Casting, nn.Sequential], ids=["autocast", "plain"])
def test_a_measure_that_moves_the_weights_evaluates_at_each_point(measured, kind):
    objective = steppe.Objective(kind(make_model()), batches(1))
    expected = measured(objective)
    with ExitStack() as regions:
        regions.enter_context(CAST())
        regions.enter_context(parametrize.cached())
        objective.model(batches(1)[0][0])
        assert torch.equal(measured(objective), expected)
