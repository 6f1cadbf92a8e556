"""What every base optimizer of steppe promises, as torch's own do."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import Optimizer, lr_scheduler

import steppe
from loops import base_step, batches, identical, loop_step, make_model, values
from steppe.bases import PHB, AdaBound, AdaShift
from steppe.errors import CheckpointError, SettingError

MAKERS: dict[str, Callable[[Any], Optimizer]] = {
    "phb": lambda params: PHB(params, 0.05, weight_decay=0.01),
    "phb-torch": lambda params: PHB(params, 0.05, form="torch"),
    "adashift-max": lambda params: AdaShift(params, 0.01, window=3),
    "adashift-none": lambda params: AdaShift(params, 0.01, window=3, reduce="none"),
    "adabound": lambda params: AdaBound(params, 0.01, weight_decay=0.01),
    "amsbound": lambda params: AdaBound(
        params, 0.01, amsbound=True, weight_decay=0.01, decoupled_weight_decay=True
    ),
}
EVERY = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


def train(
    opt: Optimizer, model: nn.Module, count: int, start: int = 0, schedule: Any = None
) -> None:
    for x, y in batches(count, start):
        base_step(opt, model, x, y)
        if schedule is not None:
            schedule.step()


def falling(opt: Optimizer) -> lr_scheduler.LRScheduler:
    return lr_scheduler.ExponentialLR(opt, 0.8)


@EVERY
@pytest.mark.parametrize("stop", [2, 4])
def test_resuming_equals_never_stopping(make, stop):
    straight = make_model()
    opt = make(straight.parameters())
    train(opt, straight, 9, schedule=falling(opt))

    model = make_model()
    opt = make(model.parameters())
    schedule = falling(opt)
    train(opt, model, stop, schedule=schedule)
    file = io.BytesIO()
    parts = {"model": model, "opt": opt, "schedule": schedule}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    model = make_model()
    opt = make(model.parameters())
    schedule = falling(opt)
    model.load_state_dict(saved["model"])
    opt.load_state_dict(saved["opt"])
    schedule.load_state_dict(saved["schedule"])
    train(opt, model, 9 - stop, start=stop, schedule=schedule)
    assert identical(values(model), values(straight))


@EVERY
@pytest.mark.parametrize(
    "twin", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
def test_copies_go_on_alike_and_apart(make, twin):
    model = make_model()
    opt = make(model.parameters())
    train(opt, model, 5)
    other_model, other = twin((model, opt))
    before = values(model)
    train(other, other_model, 3, start=5)
    assert identical(values(model), before)
    train(opt, model, 3, start=5)
    assert identical(values(model), values(other_model))


@EVERY
def test_sam_of_radius_zero_is_the_base_bit_for_bit(make):
    plain, wrapped = make_model(), make_model()
    base = make(plain.parameters())
    opt = steppe.SAM(make(wrapped.parameters()), rho=0.0)
    for x, y in batches(6):
        base_step(base, plain, x, y)
        loop_step(opt, wrapped, x, y)
    assert identical(values(plain), values(wrapped))
    assert not identical(values(plain), values(make_model()))


@EVERY
def test_a_wrapped_base_resumes_with_its_state(make):
    straight = make_model()
    opt = steppe.SAM(make(straight.parameters()), rho=0.05)
    for x, y in batches(5):
        loop_step(opt, straight, x, y)
    model = copy.deepcopy(straight)
    other = steppe.SAM(make(model.parameters()), rho=0.05)
    other.load_state_dict(copy.deepcopy(opt.state_dict()))
    for x, y in batches(3, start=5):
        loop_step(opt, straight, x, y)
        loop_step(other, model, x, y)
    assert identical(values(model), values(straight))


@EVERY
def test_groups_have_learning_rates_of_their_own_also_when_added_later(make):
    def one(param: nn.Parameter, lr: float) -> Optimizer:
        opt = make([param])
        return type(opt)([{"params": [param], "lr": lr}], **opt.defaults)

    a, b = nn.Parameter(torch.ones(3).double()), nn.Parameter(torch.ones(3).double())
    joint = make([a])
    joint.add_param_group({"params": [b], "lr": 0.002})
    a2, b2 = nn.Parameter(a.detach().clone()), nn.Parameter(b.detach().clone())
    alone = [make([a2]), one(b2, 0.002)]
    schedules = [falling(opt) for opt in (joint, *alone)]
    for step in range(6):
        for p in (a, b, a2, b2):
            p.grad = torch.tensor([1.0, -2.0, 0.1 * step]).double()
        for opt in (joint, *alone):
            opt.step()
        for schedule in schedules:
            schedule.step()
    assert torch.equal(a, a2)
    assert torch.equal(b, b2)
    assert not torch.equal(a, b)


@EVERY
def test_a_learning_rate_of_zero_moves_nothing(make):
    model = make_model()
    opt = make(model.parameters())
    fresh = type(opt)(model.parameters(), **{**opt.defaults, "lr": 0.0})
    before = values(model)
    train(fresh, model, 6)
    assert identical(values(model), before)


@EVERY
@pytest.mark.parametrize("lr", [1.0, 0.5])
def test_a_one_cycle_schedule_drives_it(make, lr):
    model = make_model()
    opt = make(model.parameters())
    schedule = lr_scheduler.OneCycleLR(opt, max_lr=0.01 * lr, total_steps=8)
    train(opt, model, 7, schedule=schedule)
    assert all(p.isfinite().all() for p in model.parameters())


@EVERY
def test_a_closure_is_called_once_with_gradients_on_and_its_loss_returned(make):
    w = nn.Parameter(torch.ones(2))
    opt = make([w])
    calls = []

    def closure():
        opt.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        calls.append(loss)
        return loss

    with torch.no_grad():
        assert opt.step(closure) is calls[0]
    assert len(calls) == 1
    assert opt.step() is None


@EVERY
def test_parameters_without_a_gradient_keep_weights_and_state(make):
    w, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    opt = make([w, idle])
    for _ in range(5):
        w.grad = torch.ones(2)
        opt.step()
    assert torch.equal(idle, torch.ones(2))
    assert set(opt.state) == {w}
    assert not torch.equal(w, torch.ones(2))


@EVERY
def test_gradients_are_left_as_they_are(make):
    w = nn.Parameter(torch.ones(3))
    opt = make([w])
    for _ in range(5):
        w.grad = grad = torch.tensor([1.0, 2.0, 3.0])
        opt.step()
        assert w.grad is grad
        assert grad.tolist() == [1.0, 2.0, 3.0]


@EVERY
def test_types_are_updated_side_by_side(make):
    params = [
        nn.Parameter(torch.ones(4, dtype=dtype))
        for dtype in (torch.float64, torch.float32, torch.bfloat16)
    ]
    opt = make(params)
    for _ in range(5):
        for p in params:
            p.grad = torch.full_like(p, 0.5)
        opt.step()
    wide = params[0].detach()
    torch.testing.assert_close(params[1].detach().double(), wide, rtol=1e-5, atol=0)
    torch.testing.assert_close(params[2].detach().double(), wide, rtol=0.05, atol=0)
    for p in params:
        tensors = [s for s in opt.state[p].values() if isinstance(s, torch.Tensor)]
        assert {s.dtype for s in tensors} == {p.dtype}


@EVERY
def test_a_gradient_scaler_skips_an_overflow_and_counts_no_step(make):
    model, plain = make_model(), make_model()
    opt, base = make(model.parameters()), make(plain.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=1000)
    for index, (x, y) in enumerate(batches(6)):
        opt.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        scaler.scale(loss * (float("inf") if index == 2 else 1.0)).backward()
        scaler.step(opt)
        scaler.update()
        if index != 2:
            base_step(base, plain, x, y)
    assert identical(values(model), values(plain))


@EVERY
@pytest.mark.parametrize("kind", ["sparse", "complex"])
def test_gradients_it_cannot_take_are_refused_before_anything_moves(make, kind):
    w = nn.Parameter(torch.ones(2))
    w.grad = torch.ones(2)
    dtype = torch.complex64 if kind == "complex" else torch.float32
    odd = nn.Parameter(torch.ones(4, dtype=dtype))
    odd.grad = torch.ones_like(odd).detach()
    if kind == "sparse":
        odd.grad = odd.grad.to_sparse()
    opt = make([{"params": [w]}, {"params": [odd]}])
    message = rf"needs dense real gradients, got a {kind} one of shape \(4,\)"
    with pytest.raises(SettingError, match=message):
        opt.step()
    assert torch.equal(w, torch.ones(2))
    assert not opt.state


BAD = [
    (PHB, {"lr": -1}, "lr must be >= 0, got -1"),
    (PHB, {"lr": float("nan")}, "lr must be >= 0, got nan"),
    (PHB, {"momentum": 1.5}, "momentum must be between 0 and 1, got 1.5"),
    (PHB, {"form": "nesterov"}, "form must be 'polyak' or 'torch', got 'nesterov'"),
    (PHB, {"weight_decay": -0.1}, "weight_decay must be >= 0, got -0.1"),
    (AdaShift, {"window": 0}, "window must be >= 1, got 0"),
    (AdaShift, {"window": 2.5}, "window must be a whole number >= 1, got 2.5"),
    (AdaShift, {"reduce": "sum"}, "reduce must be 'max', 'mean' or 'none'"),
    (
        AdaShift,
        {"betas": (0.9, 1.0)},
        "entry of betas must be >= 0 and < 1, got 1.0",
    ),
    (AdaShift, {"betas": 0.9}, "betas must be several numbers, got 0.9"),
    (AdaShift, {"eps": -1e-8}, "eps must be >= 0"),
    (AdaBound, {"gamma": -1}, "gamma must be >= 0, got -1"),
    (AdaBound, {"final_lr": "0.1"}, "final_lr must be a number >= 0, got '0.1'"),
    (
        AdaBound,
        {"betas": (-0.1, 0.9)},
        "entry of betas must be >= 0 and < 1, got",
    ),
    (AdaBound, {"amsbound": "no"}, "amsbound must be True or False, got 'no'"),
    (AdaBound, {"base_lr": 0.0}, "base_lr must be > 0 where lr is, got 0"),
]


@pytest.mark.parametrize(("method", "settings", "message"), BAD)
def test_settings_are_refused_when_made_and_when_a_group_is_added(
    method, settings, message
):
    w, late = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    with pytest.raises(SettingError, match=message):
        method([w], **settings)
    opt = method([w])
    with pytest.raises(SettingError, match=message):
        opt.add_param_group({"params": [late], **settings})
    assert len(opt.param_groups) == 1


@EVERY
def test_a_setting_spoilt_later_is_refused_before_anything_moves(make):
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    opt = make([{"params": [a]}, {"params": [b]}])
    a.grad = b.grad = torch.ones(2)
    opt.param_groups[1]["lr"] = float("nan")
    with pytest.raises(SettingError, match="lr must be >= 0, got nan"):
        opt.step()
    assert not opt.state


@pytest.mark.parametrize(
    ("method", "before", "after", "lacks"),
    [
        (AdaShift, {"window": 3}, {"window": 2}, r"ring of shape \(2, 2\)"),
        (AdaShift, {"window": 3}, {"window": 4}, r"ring of shape \(4, 2\)"),
        (AdaShift, {"reduce": "none"}, {"reduce": "max"}, r"exp_avg_sq of shape \(\)"),
        (PHB, {}, {"form": "torch"}, r"momentum_buffer of shape \(2,\)"),
        (AdaBound, {}, {"amsbound": True}, r"max_exp_avg_sq of shape \(2,\)"),
    ],
)
def test_a_setting_that_shapes_the_state_stays_what_it_was(
    method, before, after, lacks
):
    other, w = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    opt = method([{"params": [other]}, {"params": [w], **before}])
    for _ in range(4):
        other.grad = w.grad = torch.ones(2)
        opt.step()
    opt.param_groups[1].update(after)
    moved = other.detach().clone()
    with pytest.raises(SettingError, match=f"state has no {lacks}; set it back"):
        opt.step()
    assert torch.equal(other, moved)


@EVERY
def test_the_state_of_another_optimizer_is_refused(make):
    w = nn.Parameter(torch.ones(2))
    opt = make([w])
    w.grad = torch.ones(2)
    opt.step()
    before = copy.deepcopy(opt.state_dict())
    message = f"the state is not of {type(opt).__name__}: its groups have no"
    with pytest.raises(CheckpointError, match=message):
        opt.load_state_dict(torch.optim.SGD([w], 0.1).state_dict())
    assert opt.state_dict()["param_groups"] == before["param_groups"]


def test_the_base_learning_rate_of_adabound_is_that_before_any_schedule():
    w = nn.Parameter(torch.ones(2))
    opt = AdaBound([w], 0.01)
    lr_scheduler.LinearLR(opt, 0.1)
    assert opt.param_groups[0]["lr"] == pytest.approx(0.001)
    assert opt.param_groups[0]["base_lr"] == 0.01
    assert opt.state_dict()["param_groups"][0]["base_lr"] == 0.01
    opt.add_param_group({"params": [nn.Parameter(torch.ones(2))], "lr": 0.3})
    assert opt.param_groups[1]["base_lr"] == 0.3


def test_the_base_learning_rate_of_adabound_does_not_follow_a_tensor():
    rate = torch.tensor(0.01)
    opt = AdaBound([nn.Parameter(torch.ones(2))], rate)
    rate.mul_(0.5)
    assert opt.param_groups[0]["base_lr"] == pytest.approx(0.01)


def test_adabound_wants_to_be_told_the_base_of_a_rate_that_rises_from_zero():
    w = nn.Parameter(torch.ones(2))
    w.grad = torch.ones(2)
    opt = AdaBound([w], 0.0)
    opt.step()
    opt.param_groups[0]["lr"] = 0.01
    with pytest.raises(SettingError, match="give it base_lr"):
        opt.step()
    assert torch.equal(w, torch.ones(2))
    opt.param_groups[0]["base_lr"] = 0.01
    opt.step()
    assert not torch.equal(w, torch.ones(2))


def test_the_names_are_those_of_the_package():
    assert steppe.bases.PHB is PHB
    assert steppe.bases.AdaShift is AdaShift
    assert steppe.bases.AdaBound is AdaBound


@pytest.mark.gpu
@EVERY
def test_a_step_never_waits_for_the_gpu(make):
    params = [nn.Parameter(torch.ones(s, device="cuda")) for s in ((3, 4), (4,), ())]
    opt = make(params)
    for p in params:
        p.grad = torch.full_like(p, 0.5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(5):
            opt.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(bool((p < 1).all()) for p in params)
