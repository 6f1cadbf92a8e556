"""What every registered optimizer promises; read from its declared facts."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import loops
import steppe
from loops import base_step, closure_step, loop_step, make_model, values
from steppe.errors import CheckpointError, SettingError, UsageError
from steppe.gates import After, Every
from steppe.optimizers import OPTIMIZERS
from steppe.registry.registry import Entry
from steppe.registry.specs import Limit

ENTRIES = list(OPTIMIZERS)
EVERY = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
LIMITS = [(entry, limit) for entry in ENTRIES for limit in entry.spec.limits]


def make(entry: Entry, base: Any, **more: Any) -> Any:
    return entry.make(base, **{**entry.spec.example, **more})


def variants(entry: Entry) -> list[dict[str, Any]]:
    """The example settings, and the example in every shape that a limit names."""
    shapes = [
        {k: v for k, v in limit.settings.items() if k not in entry.spec.example}
        for limit in entry.spec.limits
    ]
    return [{}, *filter(None, shapes)]


CASES = [(entry, more) for entry in ENTRIES for more in variants(entry)]
EVERY_CASE = pytest.mark.parametrize(
    ("entry", "more"), CASES, ids=[f"{e.name}-{m or 'example'}" for e, m in CASES]
)


@EVERY_CASE
def test_a_step_costs_the_declared_number_of_gradients(entry, more):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **more)
    rows = [_rows_of_a_step(opt, model, x, y) for x, y in loops.batches(20)]
    assert sum(rows) / 20 == pytest.approx(loops.ROWS * entry.spec.grad_evals)


def _rows_of_a_step(opt: Any, model: Any, x: Any, y: Any) -> int:
    rows = 0
    for _ in opt.passes():
        xs, ys = opt.take(x, y)
        rows += len(xs)
        F.cross_entropy(model(xs), ys).backward()
    opt.step()
    return rows


@EVERY_CASE
@pytest.mark.parametrize("adaptive", [False, True], ids=["sgd", "adam"])
def test_resuming_equals_never_stopping(entry, more, adaptive):
    if adaptive and entry.spec.base == "plain":
        pytest.skip("steps with plain SGD only")

    def base(model: Any) -> Any:
        return loops.adam(model) if adaptive else loops.base_for(entry, model)

    straight = make_model()
    opt = make(entry, base(straight), **more)
    for x, y in loops.batches(8):
        loop_step(opt, straight, x, y)

    model = make_model()
    opt = make(entry, base(model), **more)
    for x, y in loops.batches(4):
        loop_step(opt, model, x, y)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "opt": opt.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    model = make_model()
    opt = make(entry, base(model), **more)
    model.load_state_dict(saved["model"])
    opt.load_state_dict(saved["opt"])
    for x, y in loops.batches(4, start=4):
        loop_step(opt, model, x, y)

    assert loops.identical(values(model), values(straight))
    assert opt.steps == 8


@EVERY_CASE
def test_resuming_with_a_scaler_and_schedules_equals_never_stopping(entry, more):
    name = next(iter(entry.make.bounds))

    def fresh(model: Any) -> tuple[Any, Any, Any]:
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
        schedule = steppe.schedules.Cosine(0.1, 0.02, steps=8, warmup=2)
        base = loops.base_for(entry, model)
        opt = make(entry, base, scaler=scaler, **{**more, name: schedule})
        return opt, scaler, torch.optim.lr_scheduler.StepLR(opt, 2, gamma=0.5)

    def train(model: Any, parts: Any, start: int) -> None:
        opt, scaler, rates = parts
        for index, (x, y) in enumerate(loops.batches(4, start=start)):
            _scaled_step(opt, scaler, model, x, y, fatal=0 if index == 2 else -1)
            rates.step()

    straight = make_model()
    parts = fresh(straight)
    train(straight, parts, 0)
    train(straight, parts, 4)
    assert parts[0].steps == 6

    model = make_model()
    parts = fresh(model)
    train(model, parts, 0)
    file = io.BytesIO()
    torch.save([model.state_dict(), *(part.state_dict() for part in parts)], file)
    file.seek(0)
    states = torch.load(file, weights_only=True)
    model = make_model()
    parts = fresh(model)
    for thing, state in zip((model, *parts), states, strict=True):
        thing.load_state_dict(state)
    train(model, parts, 4)
    assert loops.identical(values(model), values(straight))


@EVERY_CASE
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_a_copy_goes_on_like_the_original(entry, more, copied):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **more)
    scheduler = torch.optim.lr_scheduler.StepLR(opt, 100)
    for x, y in loops.batches(2):
        loop_step(opt, model, x, y)
        scheduler.step()
    twin, twin_opt = copied((model, opt))
    for x, y in loops.batches(2, start=2):
        loop_step(opt, model, x, y)
        loop_step(twin_opt, twin, x, y)
    assert loops.identical(values(twin), values(model))


@EVERY_CASE
def test_the_closure_form_equals_the_loop_form(entry, more):
    results = []
    for step in (loop_step, closure_step):
        model = make_model()
        opt = make(entry, loops.base_for(entry, model), **more)
        for x, y in loops.batches(3):
            step(opt, model, x, y)
        results.append(values(model))
    assert loops.identical(*results)


@pytest.mark.parametrize(
    ("entry", "limit"), LIMITS, ids=[f"{e.name}-{li.settings}" for e, li in LIMITS]
)
def test_a_declared_limit_is_another_method_bit_for_bit(entry, limit: Limit):
    model, plain = make_model(), make_model()
    opt = make(entry, loops.base_for(entry, model), **limit.settings)
    if limit.equals == "base":
        other = loops.base_for(entry, plain)
        parts = loops.shares(opt, entry)
        reference = loops.shared_step(parts) if parts > 1 else base_step
    else:
        other = OPTIMIZERS.build(limit.equals, loops.base_for(entry, plain))
        reference = loop_step
    for x, y in loops.batches(5):
        loop_step(opt, model, x, y)
        reference(other, plain, x, y)
    assert loops.identical(values(model), values(plain))


@EVERY_CASE
def test_an_exception_in_any_pass_leaves_the_weights_clean(entry, more):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **more)
    x, y = next(loops.batches(1))
    count = len(list(_passes(opt, model, x, y)))
    opt.zero_grad()
    for fatal in range(count):
        before = values(model)
        with pytest.raises(MemoryError):
            _fail_in_pass(fatal, opt, model, x, y)
        assert loops.identical(values(model), before)
        with pytest.raises(UsageError, match="finished passes"):
            opt.step()
    loop_step(opt, model, x, y)
    assert not loops.identical(values(model), before)


def _fail_in_pass(fatal: int, opt: Any, model: Any, x: Any, y: Any) -> None:
    for index in _passes(opt, model, x, y):
        if index == fatal:
            raise MemoryError


def _passes(opt: Any, model: Any, x: Any, y: Any) -> Any:
    for index in opt.passes():
        xs, ys = opt.take(x, y)
        F.cross_entropy(model(xs), ys).backward()
        yield index


@EVERY_CASE
def test_an_exception_in_a_closure_leaves_the_weights_clean(entry, more):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **more)
    x, y = next(loops.batches(1))
    before = values(model)
    calls = []

    def closure():
        calls.append(1)
        if len(calls) == max(2, entry.spec.grad_evals) or entry.spec.grad_evals == 1:
            raise MemoryError
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    with pytest.raises(MemoryError):
        opt.step(closure)
    assert loops.identical(values(model), before)


@EVERY_CASE
def test_leaving_the_loop_early_leaves_the_weights_clean(entry, more):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **more)
    x, y = next(loops.batches(1))
    before = values(model)
    for _ in opt.passes():
        F.cross_entropy(model(x), y).backward()
        break
    assert loops.identical(values(model), before)
    kept = opt.passes()
    next(kept)
    with pytest.raises(UsageError, match="finished passes"):
        opt.step()
    assert loops.identical(values(model), before)


@EVERY_CASE
@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_a_non_finite_gradient_in_any_pass_leaves_the_weights_clean(
    entry, more, poison
):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **more)
    x, y = next(loops.batches(1))
    before = values(model)
    for fatal in range(4):
        for index in opt.passes():
            scale = poison if index == fatal else 1.0
            (F.cross_entropy(model(x), y) * scale).backward()
        assert loops.identical(values(model), before)
        opt.zero_grad()


@EVERY_CASE
def test_scaling_the_loss_scales_the_gradient_and_nothing_else(entry, more):
    grads = []
    for scale in (1.0, 1024.0):
        model = make_model()
        scaler = None if entry.make.scale_free else _fixed_scaler(scale)
        opt = make(entry, loops.base_for(entry, model), scaler=scaler, **more)
        x, y = next(loops.batches(1))
        for _ in opt.passes():
            (F.cross_entropy(model(x), y) * scale).backward()
        grads.append([p.grad / scale for p in model.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-14)


def _fixed_scaler(scale: float) -> torch.amp.GradScaler:
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    scaler.scale(torch.ones(()))
    return scaler


@EVERY_CASE
def test_a_gradient_scaler_works_unmodified(entry, more):
    model, plain = make_model(), make_model()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=2)
    opt = make(entry, loops.base_for(entry, model), scaler=scaler, **more)
    twin = make(entry, loops.base_for(entry, plain), **more)
    for x, y in loops.batches(3):
        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            scaler.scale(F.cross_entropy(model(xs), ys)).backward()
        scaler.unscale_(opt)
        scaler.step(opt)
        scaler.update()
        loop_step(twin, plain, x, y)
    for one, other in zip(values(model), values(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@EVERY_CASE
@pytest.mark.parametrize("fatal", [0, 1])
def test_a_gradient_scaler_skips_a_step_with_an_infinite_pass(entry, more, fatal):
    model = make_model()
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    opt = make(entry, loops.base_for(entry, model), scaler=scaler, **more)
    for x, y in loops.batches(2):
        _scaled_step(opt, scaler, model, x, y)
    before, state = values(model), copy.deepcopy(opt.state_dict())
    count = _scaled_step(opt, scaler, model, x, y, fatal=fatal)
    if fatal >= count:
        return
    assert loops.identical(values(model), before)
    assert scaler.get_scale() == 512.0
    assert opt.steps == 2
    _assert_same(opt.state_dict(), state, but="generator")
    _scaled_step(opt, scaler, model, x, y)
    assert all(p.isfinite().all() for p in model.parameters())


def _scaled_step(
    opt: Any, scaler: Any, model: Any, x: Any, y: Any, fatal: int = -1
) -> int:
    index = 0
    for index in opt.passes():
        xs, ys = opt.take(x, y)
        factor = float("inf") if index == fatal else 1.0
        scaler.scale(F.cross_entropy(model(xs), ys) * factor).backward()
    scaler.step(opt)
    scaler.update()
    return index + 1


def _assert_same(one: Any, other: Any, but: str) -> None:
    """Equal nested dicts and lists of tensors, one key apart."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            if key != but:
                _assert_same(one[key], other[key], but)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


@EVERY_CASE
def test_frozen_parameters_stay_and_the_rest_learns(entry, more):
    model = make_model()
    model[0].weight.requires_grad_(False)
    opt = make(entry, loops.base_for(entry, model), **more)
    before = values(model)
    for x, y in loops.batches(2):
        loop_step(opt, model, x, y)
    after = values(model)
    assert torch.equal(before[0], after[0])
    assert model[0].weight.grad is None
    assert not torch.equal(before[2], after[2])


@EVERY_CASE
def test_splitting_parameters_into_groups_changes_nothing(entry, more):
    results = []
    for split in (False, True):
        model = make_model()
        params = list(model.parameters())
        groups = (
            [{"params": params[:1]}, {"params": params[1:]}]
            if split
            else [{"params": params}]
        )
        opt = make(entry, loops.sgd_for(entry, groups), **more)
        for x, y in loops.batches(3):
            loop_step(opt, model, x, y)
        results.append(values(model))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)


@EVERY_CASE
def test_a_group_may_have_its_own_setting_and_may_stay_unperturbed(entry, more):
    name = next(iter(entry.make.bounds))
    model = make_model()
    first, *rest = model.parameters()
    groups = [{"params": [first], name: 0.0}, {"params": rest, "perturb": False}]
    opt = make(entry, loops.sgd_for(entry, groups), **more)
    assert opt.param_groups[0][name] == 0.0
    x, y = next(loops.batches(1))
    before = values(model)
    for _ in opt.passes():
        assert loops.identical(values(model)[1:], before[1:])
        F.cross_entropy(model(x), y).backward()


@EVERY_CASE
def test_several_bases_share_one_norm(entry, more):
    model, plain = make_model(), make_model()
    params = list(model.parameters())
    bases = [loops.sgd_for(entry, params[:2]), loops.sgd_for(entry, params[2:])]
    opt = make(entry, bases, **more)
    twin = make(entry, loops.sgd_for(entry, plain.parameters()), **more)
    for x, y in loops.batches(3):
        loop_step(opt, model, x, y)
        loop_step(twin, plain, x, y)
    for one, other in zip(values(model), values(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
    state = opt.state_dict()
    opt.load_state_dict(state)
    assert state["state"].keys() == opt.state_dict()["state"].keys()


@EVERY
def test_several_bases_resume_bit_for_bit(entry):
    def bases(model):
        params = list(model.parameters())
        first = loops.sgd_for(entry, params[:2])
        if entry.spec.base == "plain":
            return [first, loops.sgd_for(entry, params[2:])]
        return [first, torch.optim.Adam(params[2:], lr=0.01)]

    straight = make_model()
    opt = make(entry, bases(straight))
    for x, y in loops.batches(6):
        loop_step(opt, straight, x, y)
    model = make_model()
    opt = make(entry, bases(model))
    for x, y in loops.batches(3):
        loop_step(opt, model, x, y)
    fresh = make(entry, bases(model))
    fresh.load_state_dict(copy.deepcopy(opt.state_dict()))
    for x, y in loops.batches(3, start=3):
        loop_step(fresh, model, x, y)
    assert loops.identical(values(model), values(straight))


@EVERY_CASE
def test_micro_batch_loops_add_up_to_one_step(entry, more):
    """Accumulating one loop over the whole batch changes nothing."""
    if not entry.make.accumulates:
        pytest.skip("takes one loop per step")
    model, plain = make_model(), make_model()
    opt, twin = (make(entry, loops.base_for(entry, m), **more) for m in (model, plain))
    x, y = next(loops.batches(1))
    opt.zero_grad()
    for _ in opt.passes(accumulate=True):
        xs, ys = opt.take(x, y)
        F.cross_entropy(model(xs), ys).backward()
    first = [p.grad.clone() for p in model.parameters()]
    for _ in opt.passes(accumulate=True):
        xs, ys = opt.take(x, y)
        (0 * F.cross_entropy(model(xs), ys)).backward()
    assert all(
        torch.equal(g, p.grad) for g, p in zip(first, model.parameters(), strict=True)
    )
    opt.step()
    loop_step(twin, plain, x, y)
    assert loops.identical(values(model), values(plain))


@EVERY_CASE
def test_leaving_an_accumulating_loop_keeps_what_was_accumulated(entry, more):
    if not entry.make.accumulates:
        pytest.skip("takes one loop per step")
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **more)
    x, y = next(loops.batches(1))
    F.cross_entropy(model(x), y).backward()
    before = [p.grad.clone() for p in model.parameters()]
    for _ in opt.passes(accumulate=True):
        F.cross_entropy(model(x), y).backward()
        break
    after = [p.grad for p in model.parameters()]
    assert loops.identical(before, after)


@EVERY
def test_only_the_first_pass_writes_running_statistics(entry):
    model, plain = make_model(batch_norm=True), make_model(batch_norm=True)
    opt = make(entry, loops.base_for(entry, model), model=model, batch_norm="first")
    twin = make(entry, loops.base_for(entry, plain), perturb=[])
    x, y = next(loops.batches(1))
    for index in opt.passes():
        F.cross_entropy(model(x), y).backward()
        if index == 0:
            after_first = [b.clone() for b in model.buffers()]
    passes = 0
    for _ in twin.passes():
        F.cross_entropy(plain(x), y).backward()
        passes += 1
    assert loops.identical(list(model.buffers()), after_first)
    assert model[1].num_batches_tracked == 1
    assert plain[1].num_batches_tracked == passes


@EVERY_CASE
def test_replaying_random_state_gives_every_pass_the_same_masks(entry, more):
    model = make_model(dropout=0.5)
    opt = make(entry, loops.base_for(entry, model), rng="replay", perturb=[], **more)
    x, y = next(loops.batches(1))
    seen = []
    for _ in opt.passes():
        out = model(x)
        seen.append(out.detach())
        F.cross_entropy(out, y).backward()
    assert all(torch.equal(out, seen[0]) for out in seen)


@EVERY
def test_a_schedule_sets_the_value_of_each_step_and_is_continued(entry):
    name = next(iter(entry.make.bounds))
    schedule = steppe.schedules.Cosine(0.4, 0.0, steps=4)
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **{name: schedule})
    seen = []
    for x, y in loops.batches(3):
        loop_step(opt, model, x, y)
        seen.append(opt.param_groups[0][name])
    assert seen == [schedule(t) for t in range(3)]
    resumed = make(entry, loops.base_for(entry, model), **{name: schedule})
    resumed.load_state_dict(opt.state_dict())
    loop_step(resumed, model, *next(loops.batches(1)))
    assert resumed.param_groups[0][name] == schedule(3)


@EVERY
def test_lr_schedulers_may_hold_the_wrapper_or_the_base(entry):
    for pick in (lambda opt, base: opt, lambda opt, base: base):
        model = make_model()
        base = loops.base_for(entry, model)
        opt = make(entry, base)
        scheduler = torch.optim.lr_scheduler.StepLR(pick(opt, base), 1, gamma=0.5)
        loop_step(opt, model, *next(loops.batches(1)))
        scheduler.step()
        assert base.param_groups[0]["lr"] == opt.param_groups[0]["lr"] == 0.05


@EVERY
def test_a_step_without_passes_raises_and_changes_nothing(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    x, y = next(loops.batches(1))
    F.cross_entropy(model(x), y).backward()
    before = values(model)
    with pytest.raises(UsageError, match="finished passes"):
        opt.step()
    loop_step(opt, model, x, y)
    with pytest.raises(UsageError, match="finished passes"):
        opt.step()
    assert not loops.identical(values(model), before)


@EVERY
def test_a_pass_without_backward_is_one_clear_sentence(entry):
    opt = make(entry, loops.base_for(entry, make_model()))
    with pytest.raises(UsageError, match="no parameter has a gradient after pass 1"):
        for _ in opt.passes():
            pass


@EVERY
def test_a_state_of_the_base_alone_can_be_continued(entry):
    model = make_model()
    base = loops.base_for(entry, model)
    base_step(base, model, *next(loops.batches(1)))
    opt = make(entry, loops.base_for(entry, model))
    opt.load_state_dict(copy.deepcopy(base.state_dict()))
    if entry.spec.base != "plain":
        first = next(iter(opt.param_groups[0]["params"]))
        buffer = base.state[first]["momentum_buffer"]
        assert torch.equal(opt.bases[0].state[first]["momentum_buffer"], buffer)
    loop_step(opt, model, *next(loops.batches(1)))


@EVERY
def test_the_state_of_another_method_or_of_the_future_is_refused(entry):
    opt = make(entry, loops.base_for(entry, make_model()))
    state = opt.state_dict()
    state["steppe"] = {**state["steppe"], "method": "Other"}
    with pytest.raises(CheckpointError, match="is of Other, not of"):
        opt.load_state_dict(state)
    state["steppe"] = {**state["steppe"], "format": 99}
    with pytest.raises(CheckpointError, match="upgrade steppe"):
        opt.load_state_dict(state)


@EVERY
def test_a_base_that_is_no_optimizer_is_refused(entry):
    model = make_model()
    with pytest.raises(SettingError, match=r"torch\.optim\.Optimizer instance"):
        make(entry, torch.optim.SGD)
    with pytest.raises(SettingError, match="cannot wrap another"):
        make(entry, make(entry, loops.base_for(entry, model)))


@EVERY
def test_parameters_can_be_added_later(entry):
    model, late = make_model(), torch.nn.Linear(3, 3).double()
    opt = make(entry, loops.base_for(entry, model))
    opt.add_param_group({"params": list(late.parameters())})
    before = values(late)
    x, y = next(loops.batches(1))
    for _ in opt.passes():
        F.cross_entropy(late(model(x)), y).backward()
    opt.step()
    assert not loops.identical(values(late), before)


@EVERY
def test_storage_of_the_weights_never_moves(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    before = [p.data_ptr() for p in model.parameters()]
    for x, y in loops.batches(2):
        loop_step(opt, model, x, y)
    assert before == [p.data_ptr() for p in model.parameters()]


@EVERY_CASE
def test_a_closed_gate_costs_one_gradient_and_is_the_base(entry, more):
    model, plain = make_model(), make_model()
    never = After(1.0, steps=1000)
    opt = make(entry, loops.base_for(entry, model), gate=never, **more)
    base = loops.base_for(entry, plain)
    for x, y in loops.batches(3):
        assert _rows_of_a_step(opt, model, x, y) == len(x)
        base_step(base, plain, x, y)
    assert loops.identical(values(model), values(plain))


@EVERY_CASE
def test_a_gate_pays_only_when_open(entry, more):
    model, plain = make_model(), make_model()
    opt = make(entry, loops.base_for(entry, model), gate=Every(3), **more)
    twin = make(entry, loops.base_for(entry, plain), **more)
    x, y = next(loops.batches(1))
    opened = _rows_of_a_step(opt, model, x, y)
    assert opened == _rows_of_a_step(twin, plain, x, y)
    assert loops.identical(values(model), values(plain))
    assert [_rows_of_a_step(opt, model, x, y) for _ in range(2)] == [len(x)] * 2


@EVERY_CASE
def test_stepping_the_base_inside_a_loop_is_refused(entry, more):
    model = make_model()
    base = loops.base_for(entry, model)
    opt = make(entry, base, **more)
    x, y = next(loops.batches(1))
    before = values(model)
    with pytest.raises(UsageError, match="was stepped inside a passes"):
        _step_inside(opt, base, model, x, y)
    assert loops.identical(values(model), before)


def _step_inside(opt: Any, base: Any, model: Any, x: Any, y: Any) -> None:
    for _ in opt.passes():
        F.cross_entropy(model(x), y).backward()
        base.step()


@EVERY_CASE
def test_only_chosen_parameters_are_moved(entry, more):
    model = make_model()
    chosen = list(model.parameters())[:1]
    opt = make(entry, loops.base_for(entry, model), perturb=chosen, **more)
    for x, y in loops.batches(2):
        before = values(model)
        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            assert loops.identical(values(model)[1:], before[1:])
            F.cross_entropy(model(xs), ys).backward()
        opt.step()
        assert not loops.identical(values(model)[1:], before[1:])


@EVERY_CASE
def test_metrics_tell_settings_losses_and_lengths(entry, more):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), monitor=True, **more)
    assert opt.metrics().keys() == opt.bounds.keys() & opt.param_groups[0].keys()
    for x, y in loops.batches(2):
        loss = closure_step(opt, model, x, y)
    read = opt.metrics()
    final = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    assert read["final_grad_norm"] == pytest.approx(final.item(), rel=1e-6)
    assert -1 - 1e-9 <= read["cosine"] <= 1 + 1e-9
    assert read.get("loss", read.get("perturbed_loss")) == pytest.approx(loss.item())
    if "sharpness_gap" in read:
        gap = read["perturbed_loss"] - read["loss"]
        assert read["sharpness_gap"] == pytest.approx(gap)


@EVERY_CASE
def test_loops_over_micro_batches_add_up_or_are_refused(entry, more):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model), **more)
    x, y = next(loops.batches(1))
    if not entry.make.accumulates:
        with pytest.raises(UsageError, match="one passes"):
            opt.passes(accumulate=True)
        return
    total = [torch.zeros_like(p) for p in model.parameters()]
    opt.zero_grad()
    for part in range(2):
        for _ in opt.passes(accumulate=True):
            xs, ys = opt.take(x[part::2], y[part::2])
            (F.cross_entropy(model(xs), ys) / 2).backward()
        sums = [p.grad.clone() for p in model.parameters()]
        assert not loops.identical(sums, total)
        total = sums
    before = values(model)
    opt.step()
    assert not loops.identical(values(model), before)


@EVERY
def test_drawing_random_numbers_is_declared(entry):
    assert entry.make.random == entry.spec.random
    opt = make(entry, loops.base_for(entry, make_model()))
    assert (opt.generator is not None) == entry.spec.random
    if not entry.spec.random:
        with pytest.raises(SettingError, match="draws no random numbers"):
            make(entry, loops.base_for(entry, make_model()), seed=1)


@EVERY
def test_taking_directions_is_declared(entry):
    assert hasattr(entry.make, "set_directions") == entry.spec.takes_directions


def reported(opt: Any, model: Any, x: torch.Tensor, y: torch.Tensor) -> None:
    for _ in opt.passes():
        xs, ys = opt.take(x, y)
        loss = F.cross_entropy(model(xs), ys)
        loss.backward()
        opt.report(loss)


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.make.looks_first], ids=lambda entry: entry.name
)
def test_the_loss_to_log_is_that_at_the_unperturbed_weights(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    x, y = next(loops.batches(1))
    expected = F.cross_entropy(model(x), y)
    reported(opt, model, x, y)
    assert opt.loss == expected
    opt.step()
    assert opt.loss == expected


def test_the_loss_of_a_method_that_looks_at_noisy_weights_alone_is_their_mean():
    model = make_model()
    opt = steppe.LPFSGD(loops.momentum(model), gamma=0.1, micro_batches=2)
    (x, y), losses = next(loops.batches(1)), []
    for _ in opt.passes():
        losses.append(F.cross_entropy(model(x), y))
        losses[-1].backward()
        opt.report(losses[-1])
    torch.testing.assert_close(opt.loss, sum(losses).detach() / 2)
    assert losses[0] != losses[1]


def test_a_loss_that_was_never_reported_is_asked_for_in_a_sentence():
    model = make_model()
    opt = steppe.SAM(loops.momentum(model))
    loop_step(opt, model, *next(loops.batches(1)))
    with pytest.raises(UsageError, match=r"call report\(loss\) in each"):
        _ = opt.loss


@EVERY_CASE
def test_a_complex_parameter_left_out_steps_as_its_two_real_parts_do(entry, more):
    ends = []
    for as_complex in (True, False):
        rest = torch.tensor([0.5, -1.0, 2.0, 0.25], dtype=torch.float64)
        kept = nn.Parameter(torch.view_as_complex(rest.view(2, 2).clone()))
        kept = kept if as_complex else nn.Parameter(rest.view(2, 2).clone())
        w = nn.Parameter(torch.tensor([1.0, -0.5, 0.3], dtype=torch.float64))
        groups = [{"params": [w]}, {"params": [kept], "perturb": False}]
        opt = make(entry, loops.sgd_for(entry, groups), monitor=True, **more)
        for _ in range(3):
            for _ in opt.passes():
                parts = torch.view_as_real(kept) if as_complex else kept
                (w.square().sum() * (1 + parts.square().sum())).backward()
            opt.step()
        real = torch.view_as_real(kept) if as_complex else kept
        ends.append([w.detach(), real.detach(), *opt.metrics().values()])
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-14)
