"""Bases that train at one point and predict at another: schedule-free optimizers.

The oracle is the recursion of Defazio et al., 2024, arXiv:2405.15682, Section 2: with
y = (1 - beta) z + beta x the gradient is taken at y, z takes a plain step, and x is the
mean of all z.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import schedulefree
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import loops
import methods
import steppe
from steppe import compat
from steppe.errors import SettingError, UsageError
from steppe.optimizers import OPTIMIZERS

pytestmark = pytest.mark.cross_library
LR, BETA = 0.5, 0.9
LIMITS = [
    (entry, limit)
    for entry in OPTIMIZERS
    for limit in entry.spec.limits
    if limit.equals == "base" and entry.spec.base == "any"
]


def free(model: nn.Module, **more: Any) -> torch.optim.Optimizer:
    settings = {"lr": LR, "momentum": BETA, **more}
    return schedulefree.SGDScheduleFree(model.parameters(), **settings)


def free_adamw(model: nn.Module) -> torch.optim.Optimizer:
    return schedulefree.AdamWScheduleFree(model.parameters(), lr=0.01, warmup_steps=2)


def train(opt: Any, model: nn.Module, start: int = 0, count: int = 4) -> nn.Module:
    opt.train()
    for x, y in loops.batches(count, start):
        if hasattr(opt, "passes"):
            loops.loop_step(opt, model, x, y)
        else:
            loops.base_step(opt, model, x, y)
    return model


def loss_gradient(weights: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Gradient at a vector of weights; the network is written out."""
    weights = weights.clone().requires_grad_()
    first, bias, second, offset = weights.split([30, 6, 18, 3])
    hidden = torch.tanh(x @ first.view(6, 5).T + bias)
    loss = F.cross_entropy(hidden @ second.view(3, 6).T + offset, y)
    return torch.autograd.grad(loss, weights)[0]


def by_hand(rho: float, steps: int) -> tuple[Tensor, Tensor]:
    """Points to train and to predict at after some steps, from the paper's formula."""
    model = loops.make_model()
    x = z = nn.utils.parameters_to_vector(model.parameters()).detach()
    for k, batch in enumerate(loops.batches(steps), 1):
        y = (1 - BETA) * z + BETA * x
        first = loss_gradient(y, *batch)
        uphill = y + rho * first / first.norm() if rho else y
        z = z - LR * loss_gradient(uphill, *batch)
        x = x + (z - x) / k
    return (1 - BETA) * z + BETA * x, x


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_sam_takes_its_gradients_around_the_point_to_train_at(rho):
    model = loops.make_model()
    opt = steppe.SAM(free(model), rho=rho)
    train(opt, model)
    y, x = by_hand(rho, 4)
    here = nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(here, y, rtol=0, atol=1e-12)
    opt.eval()
    there = nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(there, x, rtol=0, atol=1e-12)
    assert not torch.allclose(x, y, rtol=0, atol=1e-4)
    opt.train()
    again = nn.utils.parameters_to_vector(model.parameters())
    torch.testing.assert_close(again, y, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("entry", "limit"), LIMITS, ids=[e.name for e, _ in LIMITS])
def test_limits_are_the_base_bit_for_bit(entry, limit):
    """Through training, prediction and training again."""
    model, plain = loops.make_model(), loops.make_model()
    gradient = {"type": "gradient"} if entry.name == "nsgd" else {}
    opt = methods.make(entry, free_adamw(model), **limit.settings, **gradient)
    base = free_adamw(plain)
    parts = loops.shares(opt, entry)
    reference = loops.shared_step(parts) if parts > 1 else loops.base_step
    for start in (0, 2):
        opt.train()
        base.train()
        for x, y in loops.batches(2, start):
            loops.loop_step(opt, model, x, y)
            reference(base, plain, x, y)
        opt.eval()
        base.eval()
        assert loops.identical(loops.values(model), loops.values(plain))


def test_a_step_in_the_mode_to_predict_raises_the_error_of_the_base():
    model = loops.make_model()
    opt = steppe.SAM(free(model), rho=0.3)
    train(opt, model)
    opt.eval()
    before = loops.values(model)
    with pytest.raises(Exception, match="not in train mode"):
        methods.passes_once(opt, model) or opt.step()
    assert loops.identical(loops.values(model), before)
    assert opt.steps == 4
    train(opt, model, start=4)
    assert opt.steps == 8


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_modes_are_not_switched_where_weights_may_be_perturbed(mode):
    model = loops.make_model()
    opt = steppe.SAM(free(model), rho=0.3)
    opt.train()
    opt.eval() if mode == "train" else None
    before = loops.values(model)
    loop = opt.passes()
    next(loop)
    F.cross_entropy(model(methods.one_batch()[0]), methods.one_batch()[1]).backward()
    next(loop)
    assert not loops.identical(loops.values(model), before)
    with pytest.raises(UsageError, match=rf"{mode}\(\) inside a passes\(\) loop"):
        getattr(opt, mode)()
    assert loops.identical(loops.values(model), before)
    getattr(opt, mode)()


def test_train_may_be_called_before_every_forward_pass():
    """The Trainer of Hugging Face does."""
    model, expected = loops.make_model(), loops.make_model()
    train(steppe.SAM(free(expected), rho=0.3), expected)
    opt = steppe.SAM(free(model), rho=0.3)
    opt.train()
    for x, y in loops.batches(4):
        for _ in opt.passes():
            opt.train()
            F.cross_entropy(model(x), y).backward()
        opt.step()
    assert loops.identical(loops.values(model), loops.values(expected))


def test_a_base_without_modes_is_left_alone():
    model = loops.make_model()
    opt = steppe.SAM(loops.momentum(model), rho=0.3)
    train(opt, model)
    before = loops.values(model)
    for _ in opt.passes():
        opt.eval()
        opt.train()
        F.cross_entropy(
            model(methods.one_batch()[0]), methods.one_batch()[1]
        ).backward()
    assert loops.identical(loops.values(model), before)


def test_of_several_bases_those_with_modes_are_switched():
    model = loops.make_model()
    first, last = model[0], model[-1]
    bases = [torch.optim.SGD(first.parameters(), lr=0.1), free(last)]
    opt = steppe.SAM(bases, rho=0.3)
    train(opt, model)
    before = loops.values(model)
    opt.eval()
    moved = [not torch.equal(a, b) for a, b in zip(loops.values(model), before)]
    assert moved == [False, False, True, True]


def test_of_several_bases_none_has_stepped_where_one_refuses_to():
    model = loops.make_model()
    bases = [torch.optim.SGD(model[0].parameters(), lr=0.1), free(model[-1])]
    opt = steppe.SAM(bases, rho=0.3)
    before = loops.values(model)
    with pytest.raises(Exception, match="not in train mode"):
        loops.loop_step(opt, model, *methods.one_batch())
    assert loops.identical(loops.values(model), before)


@pytest.mark.parametrize("predicting", [False, True])
def test_resuming_equals_never_stopping(predicting):
    model = loops.make_model()
    opt = steppe.SAM(free_adamw(model), rho=0.3)
    train(opt, model)
    if predicting:  # as the authors advise
        opt.eval()
    saved = copy.deepcopy((model.state_dict(), opt.state_dict()))
    train(opt, model, start=4)
    resumed = loops.make_model()
    other = steppe.SAM(free_adamw(resumed), rho=0.3)
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    train(other, resumed, start=4)
    assert loops.identical(loops.values(resumed), loops.values(model))


def test_a_loaded_state_says_which_mode_there_is():
    model = loops.make_model()
    opt = steppe.SAM(free(model), rho=0.3)
    train(opt, model)
    opt.eval()
    saved = copy.deepcopy(opt.state_dict())
    opt.train()
    opt.load_state_dict(saved)
    for _ in opt.passes():
        with pytest.raises(UsageError, match="inside a passes"):
            opt.train()


def test_closures_step_at_the_point_to_train_at():
    model, expected = loops.make_model(), loops.make_model()
    train(steppe.SAM(free(expected), rho=0.3), expected)
    opt = steppe.SAM(free(model), rho=0.3)
    opt.train()
    for x, y in loops.batches(4):
        loops.closure_step(opt, model, x, y)
    assert loops.identical(loops.values(model), loops.values(expected))


def test_the_two_calls_switch_their_base():
    model, expected = loops.make_model(), loops.make_model()
    opt = compat.SAM(
        model.parameters(), schedulefree.SGDScheduleFree, rho=0.3, lr=LR, momentum=BETA
    )
    opt.train()
    for x, y in loops.batches(4):
        F.cross_entropy(model(x), y).backward()
        opt.first_step(zero_grad=True)
        F.cross_entropy(model(x), y).backward()
        opt.second_step(zero_grad=True)
    plain = steppe.SAM(free(expected), rho=0.3)
    train(plain, expected)
    opt.eval()
    plain.eval()
    assert loops.identical(loops.values(model), loops.values(expected))


def test_casts_of_autocast_do_not_outlive_a_switch():
    model = loops.make_model().float()
    opt = steppe.SAM(free(model), rho=0.3)
    x, y = methods.one_batch()
    x = x.float()
    opt.train()
    with torch.autocast("cpu", torch.bfloat16):
        for _ in range(3):
            for _ in opt.passes():
                F.cross_entropy(model(x), y).backward()
            opt.step()
        model(x)
        opt.eval()
        here = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(here, model(x))


def test_an_average_beside_it_is_that_of_the_points_to_train_at():
    model = loops.make_model()
    opt = steppe.SAM(free(model), rho=0.3)
    average = steppe.SWA(model, start=1)
    average.attach(opt)
    train(opt, model, count=3)
    means = torch.stack([by_hand(0.3, k)[0] for k in (1, 2, 3)]).mean(0)
    opt.eval()
    x = loops.values(model)
    with average.applied():
        here = nn.utils.parameters_to_vector(model.parameters())
        torch.testing.assert_close(here, means, rtol=0, atol=1e-12)
    assert loops.identical(loops.values(model), x)


def test_running_statistics_are_reestimated_where_it_predicts():
    model = loops.make_model(batch_norm=True)
    opt = steppe.SAM(free(model), rho=0.3, model=model)
    data = list(loops.batches(4))
    train(opt, model)
    opt.eval()
    steppe.averaging.reestimate(model, data)
    rows = model[0](torch.cat([x for x, _ in data]))
    torch.testing.assert_close(model[1].running_mean, rows.mean(0))
    torch.testing.assert_close(model[1].running_var, rows.var(0))


def test_a_corrected_displacement_is_refused():
    model = loops.make_model()
    with pytest.raises(SettingError, match="SGDScheduleFree keeps two sets of weights"):
        steppe.NSGD(free(model), gamma=0.5)


@pytest.mark.parametrize("name", ["SGDScheduleFreeClosure", "AdamWScheduleFreeClosure"])
def test_variants_that_evaluate_the_loss_by_themselves_are_refused(name):
    base = getattr(schedulefree, name)(loops.make_model().parameters())
    with pytest.raises(SettingError, match=f"{name} evaluates the loss by itself"):
        steppe.SAM(base)
