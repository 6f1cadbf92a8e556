"""Code written for other libraries runs after changing the import, and fails well."""

from __future__ import annotations

import copy
import io
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import CosineAnnealingLR

import loops
import steppe
from loops import loop_step, make_model, values
from steppe.compat import (
    ASAM,
    GSAM,
    SAM,
    CosineScheduler,
    LinearScheduler,
    PolyScheduler,
    ProportionScheduler,
    TwoCall,
)
from steppe.errors import CheckpointError, SettingError, UsageError
from steppe.gates import AdaptiveGate, Every
from steppe.optimizers import OPTIMIZERS


def make(model: nn.Module, **more: Any) -> SAM:
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-3, "nesterov": True}
    return SAM(model.parameters(), torch.optim.SGD, **{**settings, **more})


def backward(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss


def two_calls(opt: Any, model: nn.Module, x: Tensor, y: Tensor) -> None:
    backward(model, x, y)
    opt.first_step(zero_grad=True)
    backward(model, x, y)
    opt.second_step(zero_grad=True)


def one_batch() -> tuple[Tensor, Tensor]:
    return next(loops.batches(1))


# ---- the same as the loop form ---------------------------------------------------


GATED = [
    lambda base: steppe.SAM(base, gate=Every(2)),
    lambda base: steppe.SAM(base, gate=AdaptiveGate(10)),
    lambda base: steppe.SAM(base, perturb=base.param_groups[0]["params"][:1]),
]


@pytest.mark.parametrize("wrap", GATED)
def test_two_calls_keep_gates_and_masks(wrap):
    model, twin = make_model(), make_model()
    calls, opt = TwoCall(wrap(loops.momentum(model))), wrap(loops.momentum(twin))
    for x, y in loops.batches(6):
        two_calls(calls, model, x, y)
        loop_step(opt, twin, x, y)
    assert loops.identical(values(model), values(twin))


def on_its_base(entry: Any, model: nn.Module) -> Any:
    """A method on SGD with momentum, or without where it refuses that."""
    try:
        return entry.make(loops.momentum(model), **entry.spec.example)
    except SettingError:
        plain = torch.optim.SGD(model.parameters(), lr=0.1)
        return entry.make(plain, **entry.spec.example)


@pytest.mark.parametrize("entry", list(OPTIMIZERS), ids=lambda entry: entry.name)
def test_two_calls_equal_the_loop_form_or_refuse_the_method(entry):
    model, twin = make_model(), make_model()
    opt, moved = on_its_base(entry, twin), on_its_base(entry, model)
    before = values(model)
    try:
        calls = TwoCall(moved)
        two_calls(calls, model, *one_batch())
    except SettingError:
        assert not opt.looks_first
    except UsageError:
        assert entry.spec.grad_evals > 2
        assert loops.identical(values(model), before)
    else:
        for x, y in loops.batches(3, start=1):
            two_calls(calls, model, x, y)
        for x, y in loops.batches(4):
            for _ in opt.passes():
                backward(twin, x, y)
            opt.step()
        assert loops.identical(values(model), values(twin))


def test_first_step_tells_whether_a_second_gradient_is_wanted():
    model = make_model()
    opt = TwoCall(steppe.SAM(loops.momentum(model), gate=Every(2)))
    told = []
    for x, y in loops.batches(4):
        backward(model, x, y)
        told.append(opt.first_step(zero_grad=True))
        if told[-1]:
            backward(model, x, y)
        opt.second_step(zero_grad=True)
    assert told == [True, False, True, False]


def test_a_gate_that_is_closed_ignores_the_second_gradient_added_or_not():
    x, y = one_batch()
    results = []
    for zero_grad in (True, False):
        model = make_model()
        inner = steppe.SAM(loops.momentum(model), gate=steppe.gates.After(1.0, 9))
        opt = TwoCall(inner)
        for call in (opt.first_step, opt.second_step):
            backward(model, x, y)
            call(zero_grad=zero_grad)
        results.append(values(model))
    plain = make_model()
    loops.base_step(loops.momentum(plain), plain, x, y)
    assert loops.identical(results[0], values(plain))
    assert loops.identical(results[1], values(plain))


def test_running_statistics_are_those_of_the_first_pass_where_the_model_is_known():
    model, twin = make_model(batch_norm=True), make_model(batch_norm=True)
    minimizer = ASAM(loops.momentum(model), model)
    x, y = one_batch()
    backward(model, x, y)
    minimizer.ascent_step()
    backward(model, x, y)
    minimizer.descent_step()
    twin(x)
    for one, other in zip(model.buffers(), twin.buffers(), strict=True):
        assert torch.equal(one, other)


# ---- code as it is written elsewhere ---------------------------------------------


@pytest.mark.parametrize("owner", ["wrapper", "base"])
def test_a_training_script_with_a_schedule_of_the_learning_rate_runs(owner):
    model = make_model()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=0.1, momentum=0.9)
    held = optimizer if owner == "wrapper" else optimizer.base_optimizer
    scheduler = CosineAnnealingLR(held, T_max=6)
    first = F.cross_entropy(model(one_batch()[0]), one_batch()[1]).item()
    for _ in range(6):
        two_calls(optimizer, model, *one_batch())
        scheduler.step()
    assert F.cross_entropy(model(one_batch()[0]), one_batch()[1]).item() < first
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    assert optimizer.param_groups is optimizer.base_optimizer.param_groups


def test_groups_may_have_radii_of_their_own_that_can_be_changed():
    model = make_model()
    first, *rest = model.parameters()
    groups = [{"params": [first], "rho": 0.0}, {"params": rest, "lr": 0.0}]
    optimizer = SAM(groups, torch.optim.SGD, rho=0.5, lr=0.1)
    before, moved = values(model), []
    for radius in (0.5, 0.0):
        optimizer.param_groups[1]["rho"] = radius
        backward(model, *one_batch())
        optimizer.first_step(zero_grad=True)
        moved.append([not torch.equal(p, b) for p, b in zip(values(model), before)])
        optimizer.abandon()
    assert moved == [[False, True, True, True], [False, False, False, False]]


def test_a_group_can_be_added_as_to_any_optimizer():
    model, late = make_model(), nn.Linear(3, 3).double()
    optimizer = make(model)
    optimizer.add_param_group({"params": late.parameters(), "rho": 0.2})
    start, (x, y) = values(late), one_batch()
    for call in (optimizer.first_step, optimizer.second_step):
        F.cross_entropy(late(model(x)), y).backward()
        call(zero_grad=True)
    assert not loops.identical(values(late), start)
    assert [g["rho"] for g in optimizer.param_groups] == [0.05, 0.2]


def test_a_gradient_scaler_works_with_the_second_call_parted():
    model, plain = make_model(), make_model()
    optimizer, twin = make(model), make(plain)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for x, y in loops.batches(3):
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        optimizer.first_step(zero_grad=True)
        scaler.scale(F.cross_entropy(model(x), y)).backward()
        optimizer.finish()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        two_calls(twin, plain, x, y)
    for one, other in zip(values(model), values(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("fatal", [0, 1])
def test_a_gradient_scaler_skips_a_step_whose_passes_overflow(fatal):
    model = make_model()
    optimizer, (x, y) = make(model), one_batch()
    before = values(model)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for index in range(2):
        poison = float("inf") if index == fatal else 1.0
        scaler.scale(F.cross_entropy(model(x), y) * poison).backward()
        if index == 0:
            optimizer.first_step(zero_grad=True)
    optimizer.finish()
    scaler.step(optimizer)
    scaler.update()
    assert loops.identical(values(model), before)
    assert scaler.get_scale() == 512.0
    optimizer.zero_grad()
    two_calls(optimizer, model, x, y)


def test_a_first_step_that_would_drop_a_finished_gradient_is_refused():
    model = make_model()
    optimizer, (x, y) = make(model), one_batch()
    backward(model, x, y)
    optimizer.first_step(zero_grad=True)
    backward(model, x, y)
    optimizer.finish()
    backward(model, x, y)
    with pytest.raises(UsageError, match=r"finish\(\) left .* step\(\) has used"):
        optimizer.first_step(zero_grad=True)
    optimizer.step()  # nothing has been changed


def test_clipping_between_the_passes_and_the_step_bounds_what_is_stepped_with():
    model = make_model()
    optimizer = SAM(model.parameters(), torch.optim.SGD, lr=1.0)
    before, (x, y) = values(model), one_batch()
    backward(model, x, y)
    optimizer.first_step(zero_grad=True)
    backward(model, x, y)
    optimizer.finish()
    nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    moved = [p - b for p, b in zip(values(model), before, strict=True)]
    length = torch.cat([m.flatten() for m in moved]).norm().item()
    assert length == pytest.approx(1e-3, rel=1e-2)


def test_the_code_of_the_page_on_moving_here_runs():
    page = Path(__file__).resolve().parents[2] / "docs" / "moving-here.md"
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    assert len(blocks) == 6
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, page.name, "exec"), names)


# ---- saving ----------------------------------------------------------------------


def through_a_file(state: dict[str, Any]) -> dict[str, Any]:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("adaptive", [False, True])
def test_resuming_equals_never_stopping(adaptive):
    straight, model = make_model(), make_model()
    optimizer = make(straight, adaptive=adaptive)
    for x, y in loops.batches(8):
        two_calls(optimizer, straight, x, y)
    optimizer = make(model, adaptive=adaptive)
    for x, y in loops.batches(4):
        two_calls(optimizer, model, x, y)
    saved = through_a_file(optimizer.state_dict())
    optimizer = make(model, adaptive=adaptive)
    optimizer.load_state_dict(saved)
    for x, y in loops.batches(4, start=4):
        two_calls(optimizer, model, x, y)
    assert loops.identical(values(model), values(straight))


def test_the_state_goes_to_the_loop_form_and_back():
    model, twin = make_model(), make_model()
    optimizer, loop = make(model), steppe.SAM(loops.momentum(twin), rho=0.05)
    for x, y in loops.batches(3):
        two_calls(optimizer, model, x, y)
    twin.load_state_dict(model.state_dict())
    loop.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    two_calls(optimizer, model, *one_batch())
    loop_step(loop, twin, *one_batch())
    assert loops.identical(values(model), values(twin))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_a_copy_goes_on_like_the_original(copied):
    model = make_model()
    optimizer = make(model)
    scheduler = CosineAnnealingLR(optimizer, T_max=50)
    two_calls(optimizer, model, *one_batch())
    scheduler.step()
    twin, other = copied((model, optimizer))
    two_calls(optimizer, model, *one_batch())
    two_calls(other, twin, *one_batch())
    assert loops.identical(values(model), values(twin))


def foreign_state(model: nn.Module, **more: Any) -> dict[str, Any]:
    """In the form of the published two-call SAM after a step: old weights, no base."""
    params = list(model.parameters())
    group = torch.optim.SGD(params, lr=0.3, momentum=0.9).state_dict()["param_groups"]
    state = {i: {"old_p": p.detach().clone()} for i, p in enumerate(params)}
    return {"state": state, "param_groups": [{**group[0], "rho": 0.7, **more}]}


def test_a_state_of_the_published_code_gives_its_settings_and_a_warning():
    model = make_model()
    optimizer = make(model)
    with pytest.warns(UserWarning, match="does not save the momentum"):
        optimizer.load_state_dict(foreign_state(model, adaptive=False))
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert optimizer.param_groups[0]["rho"] == 0.7
    two_calls(optimizer, model, *one_batch())
    assert all("old_p" not in entry for entry in optimizer.state.values())


def test_a_state_of_the_other_form_of_sam_is_refused():
    model = make_model()
    optimizer = make(model)
    with pytest.raises(CheckpointError, match="adaptive=True, this one"):
        optimizer.load_state_dict(foreign_state(model, adaptive=True))
    assert optimizer.param_groups[0]["lr"] == 0.1


# ---- going wrong -----------------------------------------------------------------


def forgotten(optimizer: SAM, model: nn.Module) -> None:
    backward(model, *one_batch())
    optimizer.first_step(zero_grad=True)
    backward(model, *one_batch())


def test_a_forgotten_second_step_is_told_at_the_next_first_step():
    model = make_model()
    optimizer, before = make(model), values(model)
    forgotten(optimizer, model)
    with pytest.raises(UsageError, match="had no second_step"):
        optimizer.first_step(zero_grad=True)
    assert loops.identical(values(model), before)
    assert all(p.grad is None for p in model.parameters())
    two_calls(optimizer, model, *one_batch())
    assert not loops.identical(values(model), before)


def test_a_gradient_is_stepped_with_once():
    model = make_model()
    optimizer = make(model)
    two_calls(optimizer, model, *one_batch())
    with pytest.raises(UsageError, match=r"needs a closure .* or finish\(\) before it"):
        optimizer.step()


def test_it_is_told_where_a_gate_is_closed_too():
    model = make_model()
    optimizer = TwoCall(steppe.SAM(loops.momentum(model), gate=Every(2)))
    two_calls(optimizer, model, *one_batch())
    backward(model, *one_batch())
    assert not optimizer.first_step()
    with pytest.raises(UsageError, match="had no second_step"):
        optimizer.first_step()


def test_a_step_can_be_abandoned_after_an_exception():
    model = make_model()
    optimizer, before = make(model), values(model)
    forgotten(optimizer, model)
    optimizer.abandon()
    assert loops.identical(values(model), before)
    two_calls(optimizer, model, *one_batch())


def test_an_exception_in_the_closure_leaves_the_weights_clean():
    model = make_model()
    optimizer, before = make(model), values(model)
    backward(model, *one_batch())

    def closure() -> Tensor:
        raise MemoryError

    with pytest.raises(MemoryError):
        optimizer.step(closure)
    assert loops.identical(values(model), before)
    two_calls(optimizer, model, *one_batch())


def test_loading_a_state_between_the_calls_puts_the_weights_back():
    model = make_model()
    optimizer, before = make(model), values(model)
    state = optimizer.state_dict()
    forgotten(optimizer, model)
    optimizer.load_state_dict(state)
    assert loops.identical(values(model), before)
    optimizer.zero_grad()
    two_calls(optimizer, model, *one_batch())


def test_loading_a_state_forgets_a_gradient_that_a_closed_gate_let_wait():
    model = make_model()
    optimizer = TwoCall(steppe.SAM(loops.momentum(model), gate=Every(2)))
    two_calls(optimizer, model, *one_batch())
    state = optimizer.state_dict()
    backward(model, *one_batch())
    assert not optimizer.first_step(zero_grad=True)
    optimizer.load_state_dict(state)
    with pytest.raises(UsageError, match="need a first_step"):
        optimizer.second_step()
    two_calls(optimizer, model, *one_batch())


def test_the_weights_come_back_when_the_optimizer_goes():
    model = make_model()
    optimizer, before = make(model), values(model)
    forgotten(optimizer, model)
    del optimizer
    assert loops.identical(values(model), before)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda o, m: o.first_step(), "no parameter has a gradient after pass 1"),
        (lambda o, m: o.second_step(), "need a first_step"),
        (lambda o, m: o.finish(), "need a first_step"),
        (lambda o, m: o.step(), "needs a closure"),
        (lambda o, m: (forgotten(o, m), o.step()), "call second_step"),
        (lambda o, m: (forgotten(o, m), o.finish(), o.zero_grad(), o.step()), "finish"),
        (lambda o, m: (forgotten(o, m), o.zero_grad(), o.second_step()), "pass 2"),
        (lambda o, m: (forgotten(o, m), o.base_optimizer.step()), "inside a passes"),
    ],
)
def test_calls_in_a_meaningless_order_are_refused(call: Callable[..., Any], told):
    model = make_model()
    optimizer, before = make(model), values(model)
    with pytest.raises(UsageError, match=told):
        call(optimizer, model)
    optimizer.abandon()
    assert loops.identical(values(model), before)


def test_a_method_of_three_passes_is_refused_with_clean_weights():
    model = make_model()
    optimizer = TwoCall(steppe.SAM(loops.momentum(model), ascent_steps=2))
    before, (x, y) = values(model), one_batch()
    backward(model, x, y)
    optimizer.first_step(zero_grad=True)
    backward(model, x, y)
    with pytest.raises(UsageError, match="more than two gradients per step"):
        optimizer.second_step()
    assert loops.identical(values(model), before)


@pytest.mark.parametrize(
    ("wrap", "told"),
    [
        (lambda base: base, "steppe optimizer such as"),
        (lambda base: steppe.LPFSGD(base), "first gradient at perturbed weights"),
        (lambda base: steppe.SAM(base, rng="replay"), "rng='replay' has to see"),
    ],
)
def test_optimizers_that_two_calls_cannot_drive_are_refused(wrap, told):
    with pytest.raises(SettingError, match=told):
        TwoCall(wrap(loops.momentum(make_model())))


def test_settings_that_cannot_be_are_refused():
    model = make_model()
    with pytest.raises(SettingError, match="rho must be >= 0, got -1"):
        make(model, rho=-1.0)
    first, *rest = model.parameters()
    mixed = [{"params": [first], "adaptive": True}, {"params": rest}]
    with pytest.raises(SettingError, match="the same in all groups"):
        SAM(mixed, torch.optim.SGD, lr=0.1)


# ---- GSAM ------------------------------------------------------------------------


def make_gsam(model: nn.Module, **more: Any) -> GSAM:
    radius = LinearScheduler(T_max=8, max_value=0.6, min_value=0.1)
    given = {"gsam_alpha": 0.4, "rho_scheduler": radius, **more}
    return GSAM(model.parameters(), loops.momentum(model), model, **given)


def gsam_step(opt: GSAM, model: nn.Module, x: Tensor, y: Tensor) -> tuple[Any, Tensor]:
    opt.set_closure(F.cross_entropy, x, y)
    told = opt.step()
    opt.update_rho_t()
    return told


def test_gsam_tells_predictions_and_loss_at_the_unperturbed_weights():
    model = make_model()
    x, y = one_batch()
    before = model(x).detach()
    predictions, loss = gsam_step(make_gsam(model), model, x, y)
    assert torch.equal(predictions, before)
    assert loss.item() == F.cross_entropy(before, y).item()


def test_gsam_takes_a_closure_in_place_of_set_closure():
    models = make_model(), make_model()
    x, y = one_batch()

    def closure() -> tuple[Tensor, Tensor]:
        outputs = models[0](x)
        loss = F.cross_entropy(outputs, y, label_smoothing=0.1)
        loss.backward()
        return outputs, loss

    make_gsam(models[0]).step(closure)
    twin = make_gsam(models[1])
    twin.set_closure(F.cross_entropy, x, y, label_smoothing=0.1)
    twin.step()
    assert loops.identical(*map(values, models))


def test_resuming_gsam_goes_on_with_momentum_and_radius():
    straight, model = make_model(), make_model()
    optimizer = make_gsam(straight)
    for x, y in loops.batches(8):
        gsam_step(optimizer, straight, x, y)
    optimizer = make_gsam(model)
    for x, y in loops.batches(4):
        gsam_step(optimizer, model, x, y)
    saved = through_a_file(optimizer.state_dict())
    optimizer = make_gsam(model)
    optimizer.load_state_dict(saved)
    assert optimizer.rho_t == pytest.approx(0.35)
    for x, y in loops.batches(4, start=4):
        gsam_step(optimizer, model, x, y)
    assert loops.identical(values(model), values(straight))


def test_a_state_of_the_published_gsam_loads_with_a_warning():
    model = make_model()
    optimizer = make_gsam(model)
    state = foreign_state(model)
    for i, p in enumerate(model.parameters()):
        state["state"][i] = {"old_g": torch.ones_like(p), "e_w": torch.ones_like(p)}
    with pytest.warns(UserWarning, match="published GSAM"):
        optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 0.3
    assert not optimizer.state
    gsam_step(optimizer, model, *one_batch())


def test_an_exception_in_gsam_leaves_the_weights_clean():
    model = make_model()
    optimizer, before = make_gsam(model), values(model)
    calls: list[int] = []

    def loss_fn(outputs: Tensor, targets: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 2:
            raise MemoryError
        return F.cross_entropy(outputs, targets)

    optimizer.set_closure(loss_fn, *one_batch())
    with pytest.raises(MemoryError):
        optimizer.step()
    assert loops.identical(values(model), before)


def test_a_copy_of_gsam_leaves_the_batch_behind():
    model = make_model()
    optimizer = make_gsam(model)
    gsam_step(optimizer, model, *one_batch())
    twin, other = pickle.loads(pickle.dumps((model, optimizer)))
    with pytest.raises(UsageError, match="needs set_closure"):
        other.step()
    gsam_step(optimizer, model, *one_batch())
    gsam_step(other, twin, *one_batch())
    assert loops.identical(values(model), values(twin))


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"perturb_eps": 1e-3}, "perturb_eps is 1e-12 here"),
        ({"grad_reduce": "sum"}, "multiply the learning rate"),
        ({"rho_scheduler": 0.1}, "must be one of steppe.compat"),
        ({"lr": 0.1}, "lr belong to the base optimizer"),
        ({"gsam_alpha": -1.0}, "alpha must be >= 0"),
    ],
)
def test_arguments_of_gsam_without_a_counterpart_are_refused(more, told):
    with pytest.raises(SettingError, match=told):
        make_gsam(make_model(), **more)


def test_gsam_refuses_parameters_that_its_base_does_not_hold():
    model, other = make_model(), make_model()
    radius = LinearScheduler(T_max=8, max_value=0.6)
    with pytest.raises(SettingError, match="params has 4 tensors"):
        GSAM(other.parameters(), loops.momentum(model), model, 0.4, radius)


def told(scheduler: Any, steps: int) -> list[float]:
    return [scheduler.value, *(scheduler.step() for _ in range(steps))]


@pytest.mark.parametrize(
    ("make_scheduler", "expected"),
    [
        (LinearScheduler, [0.2, 0.4, 0.6, 0.475, 0.35, 0.225, 0.1, 0.1]),
        (CosineScheduler, [0.2, 0.4, 0.6, 0.526777, 0.35, 0.173223, 0.1, 0.1]),
        (PolyScheduler, [0.2, 0.4, 0.6, 0.6, 0.453553, 0.388675, 0.35, 0.35]),
    ],
)
def test_schedulers_have_the_value_of_step_t_in_step_t(make_scheduler, expected):
    settings = {"max_value": 0.6, "min_value": 0.1, "init_value": 0.2}
    scheduler = make_scheduler(T_max=6, warmup_steps=2, **settings)
    assert told(scheduler, 7) == pytest.approx(expected, abs=1e-6)
    again = make_scheduler(T_max=6, warmup_steps=2, **settings)
    again.load_state_dict(scheduler.state_dict())
    assert again.step() == scheduler.step()


@pytest.mark.parametrize("theirs", [False, True])
def test_a_radius_in_proportion_follows_the_learning_rate_without_a_lag(theirs):
    model = make_model()
    base = loops.momentum(model)
    schedule = (
        torch.optim.lr_scheduler.LinearLR(base, 1.0, 0.0, total_iters=4)
        if theirs
        else LinearScheduler(T_max=4, max_value=0.1, optimizer=base)
    )
    radius = ProportionScheduler(
        schedule, max_lr=0.1, min_lr=0.05, max_value=0.6, min_value=0.2
    )
    optimizer = GSAM(model.parameters(), base, model, 0.4, radius)
    seen = []
    for x, y in loops.batches(5):
        optimizer.set_closure(F.cross_entropy, x, y)
        optimizer.step()
        group = optimizer.param_groups[0]
        seen.append((group["lr"], group["rho"]))
        schedule.step()
        optimizer.update_rho_t()
    lrs, radii = zip(*seen, strict=True)
    assert lrs == pytest.approx([0.1, 0.075, 0.05, 0.025, 0.0])
    assert radii == pytest.approx([0.6, 0.4, 0.2, 0.2, 0.2])


def test_a_proportion_to_no_optimizer_is_refused():
    alone = LinearScheduler(T_max=4, max_value=0.1)
    with pytest.raises(SettingError, match="made with an optimizer"):
        ProportionScheduler(alone, 0.1, 0.0, 0.6, 0.2)
