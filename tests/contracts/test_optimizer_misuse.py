"""Wrapping, loading and looping in ways that go wrong elsewhere."""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import loops
import steppe
from loops import base_step, loop_step, make_model, values
from steppe.errors import CheckpointError, SettingError, UnknownNameError, UsageError
from steppe.optimizers import OPTIMIZERS

EVERY = pytest.mark.parametrize("entry", list(OPTIMIZERS), ids=lambda entry: entry.name)


def make(entry: Any, base: Any, **more: Any) -> Any:
    return entry.make(base, **{**entry.spec.example, **more})


def setting(entry: Any) -> str:
    return next(iter(entry.make.bounds))


def one_batch() -> tuple[torch.Tensor, torch.Tensor]:
    return next(loops.batches(1))


@EVERY
def test_wrapping_a_base_again_takes_the_new_settings(entry):
    name, base = setting(entry), loops.base_for(entry, make_model())
    make(entry, base, **{name: 0.1})
    assert make(entry, base, **{name: 0.3}).param_groups[0][name] == 0.3
    with pytest.raises(SettingError, match="must be >= 0"):
        make(entry, base, **{name: -1.0})
    assert make(entry, base, **{name: 0.2}).param_groups[0][name] == 0.2
    schedule = steppe.schedules.Cosine(0.4, 0.0, steps=4)
    assert make(entry, base, **{name: schedule}).param_groups[0][name] == 0.4


@EVERY
def test_a_group_keeps_its_own_value_through_wrapping_loading_and_schedules(entry):
    name = setting(entry)

    def groups(model: nn.Module) -> torch.optim.Optimizer:
        first, *rest = model.parameters()
        own = [{"params": [first], name: 0.5}, {"params": rest, "perturb": False}]
        return loops.sgd_for(entry, own)

    model = make_model()
    base = groups(model)
    schedule = steppe.schedules.Cosine(0.4, 0.0, steps=4)
    for given in (0.1, 0.2, schedule):
        opt = make(entry, base, **{name: given})
        loop_step(opt, model, *one_batch())
        assert opt.param_groups[0][name] == 0.5
        assert opt.param_groups[1]["perturb"] is False
    plain = torch.optim.SGD(
        [{"params": g["params"]} for g in base.param_groups], lr=0.1
    ).state_dict()
    opt.load_state_dict(plain)
    assert opt.param_groups[0][name] == 0.5
    assert opt.param_groups[1]["perturb"] is False
    fresh = make(entry, groups(model), **{name: schedule})
    fresh.load_state_dict(copy.deepcopy(opt.state_dict()))
    loop_step(fresh, model, *one_batch())
    assert fresh.param_groups[0][name] == 0.5
    assert fresh.param_groups[1][name] == schedule(opt.steps)


@EVERY
def test_the_base_may_be_loaded_and_extended_behind_the_wrapper(entry):
    model, late = make_model(), nn.Linear(3, 3).double()
    base = loops.base_for(entry, model)
    opt = make(entry, base)
    base.load_state_dict(copy.deepcopy(base.state_dict()))
    base.add_param_group({"params": list(late.parameters())})
    for group in opt.param_groups:
        group["lr"] = 0.0
    before = values(model)
    for _ in opt.passes():
        F.cross_entropy(late(model(one_batch()[0])), one_batch()[1]).backward()
    opt.step()
    assert loops.identical(values(model), before)
    assert opt.param_groups is base.param_groups
    assert opt.state is base.state


@EVERY
def test_a_group_with_a_bad_setting_is_refused_before_it_is_added(entry):
    model, late = make_model(), nn.Linear(3, 3).double()
    opt = make(entry, loops.base_for(entry, model))
    bad = {"params": list(late.parameters()), setting(entry): -1.0}
    with pytest.raises(SettingError, match="must be >= 0, got -1"):
        opt.add_param_group(bad)
    assert len(opt.param_groups) == 1
    loop_step(opt, model, *one_batch())


@EVERY
@pytest.mark.parametrize("bad", ["big", None, True, float("inf")])
def test_settings_that_are_no_finite_numbers_are_refused(entry, bad):
    with pytest.raises(SettingError, match=f"{setting(entry)} must be"):
        make(entry, loops.base_for(entry, make_model()), **{setting(entry): bad})


@EVERY
def test_a_state_with_other_groups_is_refused_and_nothing_is_loaded(entry):
    model = make_model()
    params = list(model.parameters())
    split = loops.sgd_for(entry, [{"params": params[:1]}, {"params": params[1:]}])
    split.param_groups[0]["lr"] = 0.7
    state = make(entry, split).state_dict()
    opt = make(entry, loops.base_for(entry, model))
    with pytest.raises(CheckpointError, match="make it over the same groups"):
        opt.load_state_dict(state)
    assert opt.param_groups[0]["lr"] == 0.1


@EVERY
def test_loading_a_state_forgets_finished_passes(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    for _ in opt.passes():
        F.cross_entropy(model(one_batch()[0]), one_batch()[1]).backward()
    opt.load_state_dict(opt.state_dict())
    with pytest.raises(UsageError, match="finished passes"):
        opt.step()


@EVERY
def test_clearing_gradients_forgets_finished_passes(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    x, y = one_batch()
    for _ in opt.passes():
        F.cross_entropy(model(x), y).backward()
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()
    with pytest.raises(UsageError, match="finished passes"):
        opt.step()


@EVERY
def test_a_loop_inside_a_loop_is_refused_and_leaves_the_weights_clean(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    before = values(model)
    outer = opt.passes()
    next(outer)
    with pytest.raises(UsageError, match="was still open"):
        opt.passes()
    assert loops.identical(values(model), before)
    loop_step(opt, model, *one_batch())


@EVERY
def test_an_overflow_in_the_first_pass_leaves_running_statistics_finite(entry):
    model = make_model(batch_norm=True)
    opt = make(entry, loops.base_for(entry, model))
    x, y = one_batch()
    for index in opt.passes():
        factor = float("inf") if index == 0 else 1.0
        (F.cross_entropy(model(x), y) * factor).backward()
    assert all(b.isfinite().all() for b in model.buffers())
    assert not all(p.grad.isfinite().all() for p in model.parameters())


@EVERY
def test_all_keeps_the_statistics_of_every_pass_and_first_needs_the_model(entry):
    model = make_model(batch_norm=True)
    opt = make(entry, loops.base_for(entry, model), model=model, batch_norm="all")
    passes = 0
    for _ in opt.passes():
        F.cross_entropy(model(one_batch()[0]), one_batch()[1]).backward()
        passes += 1
    assert model[1].num_batches_tracked == passes
    with pytest.raises(SettingError, match="pass model=model"):
        make(entry, loops.base_for(entry, model), batch_norm="first")
    for option in ({"batch_norm": "last"}, {"rng": "same"}):
        with pytest.raises(SettingError, match="must be"):
            make(entry, loops.base_for(entry, model), model=model, **option)


@EVERY
def test_buffers_that_a_model_replaces_are_put_back_too(entry):
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = make_model()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls = self.calls + 1
            return self.net(x)

    model = Counting()
    opt = make(entry, loops.base_for(entry, model), model=model, batch_norm="first")
    loop_step(opt, model, *one_batch())
    assert model.calls == 1


@EVERY
def test_two_micro_batches_add_up_their_own_perturbed_gradients(entry):
    if loops.remembers(entry) or not entry.make.accumulates:
        pytest.skip("a loop depends on the one before, or there is only one")
    name = setting(entry)
    model = make_model()
    x, y = one_batch()
    alone = []
    for rows in (slice(0, 6), slice(6, 12)):
        opt = make(entry, loops.base_for(entry, model), **{name: 0.05})
        for _ in opt.passes():
            F.cross_entropy(model(x[rows]), y[rows]).backward()
        alone.append([p.grad.clone() for p in model.parameters()])
        opt.zero_grad()
    opt = make(entry, loops.base_for(entry, model), **{name: 0.05})
    start = None if opt.generator is None else opt.generator.get_state()
    for rows in (slice(0, 6), slice(6, 12)):
        if start is not None:
            opt.generator.set_state(start)
        for _ in opt.passes(accumulate=True):
            F.cross_entropy(model(x[rows]), y[rows]).backward()
    for p, first, second in zip(model.parameters(), *alone, strict=True):
        torch.testing.assert_close(p.grad, first + second, rtol=1e-12, atol=1e-15)


@EVERY
def test_fresh_random_state_gives_passes_masks_of_their_own(entry):
    model = make_model(dropout=0.5)
    opt = make(entry, loops.base_for(entry, model), **{setting(entry): 0.0})
    seen = []
    for _ in range(2):
        for _ in opt.passes():
            seen.append(model(one_batch()[0]))
            F.cross_entropy(seen[-1], one_batch()[1]).backward()
        opt.zero_grad()
    assert not any(torch.equal(seen[0], other) for other in seen[1:])


@EVERY
def test_frozen_parameters_are_not_moved_inside_a_pass(entry):
    model = make_model()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    opt = make(entry, loops.base_for(entry, model), **{setting(entry): 0.5})
    for _ in opt.passes():
        assert torch.equal(model[0].weight, before)
        F.cross_entropy(model(one_batch()[0]), one_batch()[1]).backward()


@EVERY
def test_a_parameter_may_change_shape_and_type_between_steps(entry):
    w = nn.Parameter(torch.randn(4, 3))
    if entry.spec.base == "momentum":
        pytest.skip("the base itself cannot do this once it has momentum")
    opt = make(entry, torch.optim.SGD([w], lr=0.1))
    for data in (w.data, torch.randn(2, 5), torch.randn(2, 5).double()):
        w.data, w.grad = data.clone(), None
        before = w.detach().clone()
        for _ in opt.passes():
            (w**2).sum().backward()
        assert torch.equal(w.detach(), before)
        opt.step()


@EVERY
def test_bases_and_closures_that_cannot_work_are_refused(entry):
    model = make_model()
    with pytest.raises(SettingError, match="LBFGS evaluates the loss by itself"):
        make(entry, torch.optim.LBFGS(model.parameters()))
    opt = make(entry, loops.base_for(entry, model))

    def silent() -> None:
        F.cross_entropy(model(one_batch()[0]), one_batch()[1]).backward()

    with pytest.raises(UsageError, match="closure must return the loss"):
        opt.step(silent)


@pytest.mark.parametrize("method", [steppe.SAM, steppe.ASAM])
def test_sparse_gradients_are_refused_in_one_sentence(method):
    table = nn.Embedding(5, 3, sparse=True)
    opt = method(torch.optim.SGD(table.parameters(), lr=0.1))
    loop = opt.passes()
    next(loop)
    table(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(UsageError, match="sparse=False"):
        next(loop)


@pytest.mark.filterwarnings("ignore:parameters in bfloat16")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_norm_of_half_precision_gradients_does_not_overflow(dtype):
    w = nn.Parameter(torch.zeros(100, dtype=dtype))
    opt = steppe.SAM(torch.optim.SGD([w], lr=0.0), rho=5.0)
    norms = []
    for _ in opt.passes():
        norms.append(w.float().norm().item())
        (w.float() * 10000).sum().backward()
    assert norms == pytest.approx([0.0, 5.0], rel=1e-2)


def test_shares_keep_their_sum_when_gradients_are_zeroed_in_place():
    results = []
    for clear in (False, True):
        torch.manual_seed(0)
        net = nn.Linear(4, 3).double()
        x, y = torch.randn(8, 4).double(), torch.randint(3, (8,))
        opt = steppe.LPFSGD(torch.optim.SGD(net.parameters(), lr=0.1), micro_batches=4)
        for _ in opt.passes():
            if clear:
                opt.zero_grad(set_to_none=False)
            xs, ys = opt.take(x, y)
            F.cross_entropy(net(xs), ys).backward()
        results.append(net.weight.grad.clone())
    assert torch.equal(*results)


def test_a_share_without_backward_is_refused():
    w = nn.Parameter(torch.ones(3))
    opt = steppe.LPFSGD(torch.optim.SGD([w], lr=0.1), micro_batches=3)
    loop = opt.passes()
    next(loop)
    w.sum().backward()
    next(loop)
    with pytest.raises(UsageError, match="no parameter has a gradient after pass 2"):
        next(loop)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((torch.zeros(6, 2), torch.zeros(3)), r"one number of rows, got \[3, 6\]"),
        ((["a"] * 6, torch.zeros(6)), "tensors along their rows, got str"),
        ((torch.zeros(()),), r"one number of rows, got \[\]"),
        ((torch.zeros(0, 2),), "without rows"),
    ],
)
def test_batches_that_cannot_be_shared_out_are_refused(batch, message):
    opt = steppe.LPFSGD(
        torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1), micro_batches=3
    )
    loop = opt.passes()
    next(loop)
    with pytest.raises(UsageError, match=message):
        opt.take(*batch)


def test_plain_numbers_in_a_batch_are_passed_on_whole():
    opt = steppe.LPFSGD(
        torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1), micro_batches=3
    )
    loop = opt.passes()
    next(loop)
    part = opt.take({"x": torch.arange(6), "id": 3})
    assert (part["x"].tolist(), part["id"]) == ([0, 1], 3)


def test_a_state_of_the_base_alone_continues_the_base():
    model, plain = make_model(), make_model()
    base = loops.momentum(plain)
    base_step(base, plain, *one_batch())
    opt = steppe.SAM(loops.momentum(model), rho=0.0)
    loop_step(opt, model, *one_batch())
    opt.load_state_dict(copy.deepcopy(base.state_dict()))
    base_step(base, plain, *one_batch())
    loop_step(opt, model, *one_batch())
    assert loops.identical(values(model), values(plain))


def test_keys_of_the_base_stay_the_bases():
    """RMSprop's alpha and Adadelta's rho are no settings of the method."""
    model = make_model()
    opt = steppe.GSAM(torch.optim.RMSprop(model.parameters(), alpha=0.99), alpha=0.4)
    assert opt.metrics()["alpha"] == 0.4
    assert opt.param_groups[0]["alpha"] == 0.99
    loop_step(opt, model, *one_batch())
    schedule = steppe.schedules.Cosine(0.4, 0.0, steps=4)
    opt = steppe.SAM(torch.optim.Adadelta(model.parameters(), rho=0.9), rho=schedule)
    for _ in range(2):
        loop_step(opt, model, *one_batch())
    assert opt.metrics()["rho"] == schedule(1)
    assert opt.param_groups[0]["rho"] == 0.9
    twin = steppe.SAM(torch.optim.Adadelta(model.parameters(), rho=0.5), rho=schedule)
    twin.load_state_dict(copy.deepcopy(opt.state_dict()))
    assert (twin.metrics()["rho"], twin.param_groups[0]["rho"]) == (schedule(1), 0.9)


def test_an_adaptive_gate_sees_gradients_without_the_scale_of_the_loss():
    decisions = []
    for scale in (None, 1024.0, 65536.0):
        model = make_model()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1, enabled=bool(scale))
        gate = steppe.gates.AdaptiveGate(steps=20)
        opt = steppe.SAM(loops.momentum(model), rho=0.5, gate=gate, scaler=scaler)
        passes = []
        for x, y in loops.batches(12):
            count = 0
            for _ in opt.passes():
                scaler.scale(F.cross_entropy(model(x), y)).backward()
                count += 1
            passes.append(count)
            scaler.step(opt)
            scaler.update()
        decisions.append(passes)
    assert decisions[0] == decisions[1] == decisions[2]
    assert {1, 2} == set(decisions[0])


@EVERY
def test_a_complex_parameter_is_refused_or_never_moved(entry):
    w = nn.Parameter(torch.tensor([1.0 + 1.0j, 2.0], dtype=torch.complex64))
    opt = make(entry, loops.sgd_for(entry, [w]))
    before = w.detach().clone()
    refused = ""
    try:
        for _ in opt.passes():
            assert torch.equal(w.detach(), before)
            (w.abs() ** 2).sum().backward()
    except UsageError as error:
        refused = str(error)
    assert torch.equal(w.detach(), before)
    assert not refused or "a complex parameter cannot be moved" in refused


@EVERY
def test_telling_more_about_a_step_does_not_change_it(entry):
    """A parameter that the last pass does not use has no gradient, watched or not."""
    results = []
    for monitor in (False, True):
        torch.manual_seed(0)
        seen, unseen = (nn.Parameter(torch.ones(2)) for _ in range(2))
        base = loops.sgd_for(entry, [seen, unseen])
        opt = make(entry, base, monitor=monitor)
        for index in opt.passes():
            loss = (seen**2).sum()
            (loss + 3 * unseen.sum() if index == 0 else loss).backward()
        results.append(unseen.grad is None)
        opt.step()
    assert results[0] == results[1]


@EVERY
@pytest.mark.parametrize("monitor", [False, True])
def test_sparse_gradients_beside_movable_ones_work_or_are_refused(entry, monitor):
    table, head = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2)
    groups = [
        {"params": table.parameters(), "perturb": False},
        {"params": head.parameters()},
    ]
    opt = make(entry, loops.sgd_for(entry, groups), monitor=monitor)
    before, refused = values(table), ""
    try:
        for _ in range(2):
            for _ in opt.passes():
                (head(table(torch.tensor([1, 2]))) ** 2).sum().backward()
            opt.step()
    except UsageError as error:
        refused = str(error)
    assert ("sparse=False" in refused) == loops.identical(values(table), before)


@pytest.mark.parametrize("method", [steppe.SAM, steppe.FSAM, steppe.LPFSGD])
def test_methods_that_step_with_one_gradient_take_sparse_ones_along(method):
    table, head = nn.Embedding(5, 3, sparse=True), nn.Linear(3, 2)
    groups = [
        {"params": table.parameters(), "perturb": False},
        {"params": head.parameters()},
    ]
    opt = method(torch.optim.SGD(groups, lr=0.1), monitor=True)
    for _ in range(2):
        for _ in opt.passes():
            head(table(torch.tensor([1, 2]))).sum().backward()
        opt.step()
    assert opt.steps == 2


@EVERY
def test_a_chosen_parameter_that_is_none_is_refused(entry):
    model, other = make_model(), make_model()
    for wrong in (["0.weight"], [model], model[0].weight, 3):
        with pytest.raises(SettingError, match="perturb must be 'all', 'norm' or par"):
            make(entry, loops.base_for(entry, model), perturb=wrong)
    with pytest.raises(SettingError, match="none of the parameters of perturb="):
        make(entry, loops.base_for(entry, model), perturb=other.parameters())


def test_wrapping_a_base_again_and_again_leaves_nothing_on_it():
    base = loops.momentum(make_model())
    for _ in range(20):
        opt = steppe.SAM(base)
    assert len(base._optimizer_step_pre_hooks) <= 2
    loop = opt.passes()
    next(loop)
    with pytest.raises(UsageError, match="stepped inside a passes"):
        base.step()


def test_an_optimizer_that_is_dropped_frees_its_copies_at_once():
    model = make_model()
    gc.disable()
    try:
        opt = steppe.SAM(loops.momentum(model))
        loop_step(opt, model, *one_batch())
        backup = weakref.ref(next(iter(opt._context._backup.values())))
        del opt
        assert backup() is None
    finally:
        gc.enable()


@EVERY
def test_a_state_of_the_base_alone_forgets_what_the_method_remembers(entry):
    results = []
    for used in (False, True):
        model = make_model()
        opt = make(entry, loops.base_for(entry, model))
        if used:
            state = {k: v.clone() for k, v in model.state_dict().items()}
            draws = None if opt.generator is None else opt.generator.get_state()
            for x, y in loops.batches(3):
                loop_step(opt, model, x, y)
            model.load_state_dict(state)
            if draws is not None:
                opt.generator.set_state(draws)
        opt.load_state_dict(loops.base_for(entry, model).state_dict())
        for x, y in loops.batches(3, start=3):
            loop_step(opt, model, x, y)
        results.append(values(model))
    assert loops.identical(*results)


def test_a_generator_of_another_device_starts_afresh_with_a_warning():
    model = make_model()
    opt = steppe.LPFSGD(loops.momentum(model), seed=3)
    loop_step(opt, model, *one_batch())
    state = copy.deepcopy(opt.state_dict())
    state["steppe"]["generator"] = torch.zeros(16, dtype=torch.uint8)  # as CUDA's
    fresh = steppe.LPFSGD(loops.momentum(model), seed=3)
    draws = fresh.generator.get_state()
    with pytest.warns(UserWarning, match="its draws begin anew from the seed"):
        fresh.load_state_dict(state)
    assert fresh.steps == 1
    assert torch.equal(fresh.generator.get_state(), draws)


def test_memory_is_loaded_into_the_dtype_of_the_parameters():
    model = make_model()
    opt = steppe.FSAM(loops.momentum(model))
    loop_step(opt, model, *one_batch())
    state = copy.deepcopy(opt.state_dict())
    state["steppe"]["memory"]["tensors"]["of a later version"] = {0: torch.ones(6, 5)}
    narrow = make_model().float()
    fresh = steppe.FSAM(torch.optim.SGD(narrow.parameters(), lr=0.1))
    fresh.load_state_dict(state)
    kept = fresh.state_dict()["steppe"]["memory"]["tensors"]["mean_gradient"]
    assert {t.dtype for t in kept.values()} == {torch.float32}
    x, y = one_batch()
    loop_step(fresh, narrow, x.float(), y)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda base: steppe.SAM(base, ascent_steps=1.5), "ascent_steps"),
        (lambda base: steppe.LPFSGD(base, micro_batches=2.5), "micro_batches"),
        (lambda base: steppe.LookSAM(base, k=2.5), "k"),
        (lambda base: steppe.EntropySGD(base, inner_steps=2.5), "inner_steps"),
        (lambda base: steppe.NSGD(base, refresh_every=2.5), "refresh_every"),
        (lambda base: steppe.gates.Every(2.5), "interval"),
        (lambda base: steppe.geometry.Spectral(iterations=2.5), "iterations"),
        (lambda base: steppe.geometry.Spectral(polish=True), "polish"),
    ],
)
def test_counts_that_are_no_whole_numbers_are_refused(make, name):
    with pytest.raises(SettingError, match=f"{name} must be a whole number >= "):
        make(loops.momentum(make_model()))


def test_losses_of_micro_batches_inside_a_pass_are_averaged():
    model = make_model()
    opt = steppe.SAM(loops.momentum(model), rho=0.0)
    x, y = one_batch()
    told = []
    for _ in opt.passes():
        for rows in (slice(0, 6), slice(6, 12)):
            loss = F.cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            opt.report(loss)
            told.append(loss.item())
    read = opt.metrics()
    assert read["loss"] == pytest.approx(sum(told[:2]) / 2)
    assert read["sharpness_gap"] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("method", [steppe.SAM, steppe.FSAM])
def test_lengths_are_told_without_the_scale_of_the_loss(method):
    read = []
    for scale in (None, 1024.0):
        model = make_model()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1, enabled=bool(scale))
        opt = method(loops.momentum(model), scaler=scaler, monitor=True)
        for _ in opt.passes():
            x, y = one_batch()
            scaler.scale(F.cross_entropy(model(x), y)).backward()
        read.append(opt.metrics())
    assert read[1] == pytest.approx(read[0])


def test_hooks_on_states_are_called_as_in_torch():
    model = make_model()
    opt, calls = steppe.SAM(loops.momentum(model)), []
    opt.register_state_dict_pre_hook(lambda o: calls.append(o is opt))
    opt.register_state_dict_post_hook(lambda o, state: {**state, "mine": 1})
    opt.register_load_state_dict_pre_hook(
        lambda o, state: {k: v for k, v in state.items() if k != "mine"}
    )
    opt.register_load_state_dict_post_hook(lambda o: calls.append(o.steps))
    loop_step(opt, model, *one_batch())
    state = opt.state_dict()
    assert state["mine"] == 1
    opt.load_state_dict(state)
    assert calls == [True, 1]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"geometry": "l2"}, r"geometry must be a steppe\.geometry\.Geometry .* 'l2'"),
        ({"model": iter([])}, r"model must be a torch\.nn\.Module, got"),
        ({"scaler": True}, "scaler must be a GradScaler, got True"),
    ],
)
def test_parts_of_the_wrong_kind_are_refused_by_name(more, message):
    with pytest.raises(SettingError, match=message):
        steppe.SAM(loops.momentum(make_model()), **more)


def test_a_group_says_with_true_or_false_whether_it_may_be_moved():
    base = torch.optim.SGD([{"params": make_model().parameters(), "perturb": "no"}])
    with pytest.raises(SettingError, match="perturb of a group must be True or False"):
        steppe.SAM(base)


class Rateless(torch.optim.Optimizer):
    """A base without a learning rate."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})


def test_what_needs_a_learning_rate_says_so():
    rho = steppe.schedules.Proportional(0.1, 0.0, max_lr=0.1)
    for make in (steppe.WSAM, lambda base: steppe.SAM(base, rho=rho)):
        with pytest.raises(SettingError, match="a parameter group has no lr"):
            make(Rateless(make_model().parameters()))
    steppe.WSAM(Rateless(make_model().parameters()), form="coupled")


@EVERY
def test_the_length_of_the_gradient_is_told_only_where_it_is_known(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    for x, y in loops.batches(3):
        F.cross_entropy(model(x), y).backward()
        clean = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        loop_step(opt, model, x, y)
        told = opt.metrics().get("grad_norm", clean.item())
        assert told == pytest.approx(clean.item(), rel=1e-9)
        opt.zero_grad()


@EVERY
def test_a_base_that_maximizes_is_refused_where_uphill_would_be_downhill(entry):
    """The methods that climb, or walk down, do so along the gradient as it is."""
    results = []
    for sign in (1, -1):
        w = nn.Parameter(torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64))
        base = loops.sgd_for(entry, [w])
        base.param_groups[0]["maximize"] = sign < 0
        try:
            opt = make(entry, base)
        except SettingError as error:
            refusal = str(error)
            break
        for _ in range(3):
            for _ in opt.passes():
                (sign * (w**4).sum()).backward()
            opt.step()
        results.append(w.detach())
    else:
        refusal = ""
    refused = "maximize=False" in refusal
    assert refused or torch.allclose(*results, rtol=1e-12, atol=0)


def test_a_state_that_remembers_more_parameters_is_refused():
    opt = steppe.FSAM(loops.momentum(make_model()))
    state = opt.state_dict()
    state["steppe"]["memory"]["tensors"]["mean_gradient"] = {99: torch.ones(1)}
    with pytest.raises(CheckpointError, match="a mean_gradient for parameter 99"):
        opt.load_state_dict(state)


@EVERY
def test_a_misspelled_setting_is_named_with_the_nearest_one(entry):
    base = loops.base_for(entry, make_model())
    name = setting(entry)
    wrong = name[:-1] + name[-1] * 2
    with pytest.raises(UnknownNameError, match=f"'{wrong}': did you mean '{name}'"):
        make(entry, base, **{wrong: 0.1})


def test_the_arguments_of_the_two_call_form_are_refused_in_a_sentence():
    params = make_model().parameters()
    with pytest.raises(UsageError, match=r"from steppe\.compat import SAM"):
        steppe.SAM(params, torch.optim.SGD, rho=0.05, lr=0.1)
    with pytest.raises(UsageError, match="one base and settings by name"):
        steppe.SAM(torch.optim.SGD(make_model().parameters(), lr=0.1), 0.05)


@EVERY
def test_the_model_of_other_parameters_is_refused(entry):
    with pytest.raises(SettingError, match="none of the optimizer's parameters"):
        make(entry, loops.base_for(entry, make_model()), model=make_model())


@EVERY
def test_stepping_the_base_after_the_loop_is_refused_and_changes_nothing(entry):
    model = make_model()
    base = loops.base_for(entry, model)
    opt = make(entry, base)
    before = values(model)
    for _ in opt.passes():
        xs, ys = opt.take(*one_batch())
        F.cross_entropy(model(xs), ys).backward()
    with pytest.raises(UsageError, match="was stepped after a passes"):
        base.step()
    assert loops.identical(values(model), before)
    opt.step()
    opt.zero_grad()
    base_step(base, model, *one_batch())  # a plain step, outside of any loop
    again = make(entry, base)
    for _ in opt.passes():
        xs, ys = opt.take(*one_batch())
        F.cross_entropy(model(xs), ys).backward()
    loop_step(again, model, *one_batch())  # the newest wrapper has the base


def test_a_wrapper_class_without_state_shows_the_optimizer_inside():
    """Trainers make a subclass of the method around the method."""

    class Outer:
        def __init__(self, optimizer: torch.optim.Optimizer) -> None:
            self._inner = optimizer

        @property
        def optimizer(self) -> torch.optim.Optimizer:
            return self._inner

    model = make_model()
    opt = steppe.SAM(loops.momentum(model), rho=0.1)
    wrapper = type("OuterSAM", (Outer, steppe.SAM), {})(opt)
    assert isinstance(wrapper, steppe.SAM)
    assert wrapper.param_groups is opt.param_groups
    before = values(model)
    for _ in wrapper.passes():
        xs, ys = wrapper.take(*one_batch())
        F.cross_entropy(model(xs), ys).backward()
    wrapper.step()
    assert not loops.identical(values(model), before)
    assert (opt.steps, wrapper.metrics()["rho"]) == (1, 0.1)
    wrapper.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@EVERY
def test_what_is_no_state_of_an_optimizer_is_refused(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    for wrong in ({"model": {}, "opt": opt.state_dict()}, model.state_dict(), {}):
        with pytest.raises(CheckpointError, match="pass what its state_dict"):
            opt.load_state_dict(wrong)


@pytest.mark.parametrize("times", [1, 3])
def test_a_closure_that_goes_on_from_earlier_gradients_is_refused(times):
    model = make_model()
    opt = steppe.SAM(loops.momentum(model), rho=0.05)
    before = values(model)
    x, y = one_batch()

    def evaluate() -> torch.Tensor:
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    opt.zero_grad()
    for _ in range(times):
        evaluate()
    with pytest.raises(UsageError, match="would lose the gradients"):
        opt.step(evaluate)
    assert loops.identical(values(model), before)
    opt.zero_grad()
    opt.step(evaluate)  # nothing was added up


def test_a_closure_that_clears_gradients_itself_may_follow_any_backward():
    model, plain = make_model(), make_model()
    opt, twin = (steppe.SAM(loops.momentum(m), rho=0.05) for m in (model, plain))
    for x, y in loops.batches(2):
        opt.zero_grad()
        F.cross_entropy(model(x), y).backward()
        for each, net in ((opt, model), (twin, plain)):
            loops.closure_step(each, net, x, y)
    assert loops.identical(values(model), values(plain))


@pytest.mark.parametrize(
    "make_it",
    [
        lambda model: steppe.SAM([{"params": list(model.parameters())}]),
        lambda model: steppe.SAM(model.parameters()),
        lambda model: steppe.SAM(loops.momentum(model), model=list(model.parameters())),
        lambda model: steppe.SAM(loops.momentum(model), perturb=model.weight.data[0]),
        lambda model: steppe.SAM(loops.momentum(model), scaler=model.state_dict()),
        lambda model: steppe.SAM(loops.momentum(model), gate=model.weight),
        lambda model: steppe.SAM(loops.momentum(model), geometry=model.weight),
    ],
)
def test_a_refusal_shows_no_weights(make_it):
    with pytest.raises(SettingError) as refused:
        make_it(nn.Linear(40, 30))
    assert len(str(refused.value)) < 200
    assert "\n" not in str(refused.value)


def passes_once(opt: Any, model: nn.Module) -> None:
    x, y = one_batch()
    for _ in opt.passes():
        xs, ys = opt.take(x, y)
        F.cross_entropy(model(xs), ys).backward()


@EVERY
def test_a_loop_that_would_drop_a_gradient_nobody_stepped_with_is_refused(entry):
    model = make_model()
    opt = make(entry, loops.base_for(entry, model))
    passes_once(opt, model)
    grads = [p.grad.clone() for p in model.parameters()]
    with pytest.raises(UsageError, match=r"passes\(accumulate=True\).*zero_grad\(\)"):
        opt.passes()
    assert loops.identical([p.grad for p in model.parameters()], grads)
    opt.step()  # nothing has been changed
    assert opt.steps == 1


def dropped_by_the_optimizer(opt: Any, model: nn.Module) -> None:
    opt.zero_grad()


def dropped_by_the_model(opt: Any, model: nn.Module) -> None:
    model.zero_grad()


def zeroed(opt: Any, model: nn.Module) -> None:
    model.zero_grad(set_to_none=False)


def overflowed(opt: Any, model: nn.Module) -> None:
    """As a `GradScaler` leaves it that skips the step."""
    next(model.parameters()).grad[0] = float("inf")


@pytest.mark.parametrize(
    "drop", [dropped_by_the_optimizer, dropped_by_the_model, zeroed, overflowed]
)
def test_a_gradient_that_was_dropped_on_purpose_does_not_stop_the_next_loop(drop):
    model = make_model()
    opt = steppe.SAM(loops.momentum(model))
    passes_once(opt, model)
    drop(opt, model)
    passes_once(opt, model)
    opt.step()
    assert opt.steps == 1


def test_a_closure_that_would_drop_the_gradient_of_finished_passes_is_refused():
    model = make_model()
    opt = steppe.SAM(loops.momentum(model))
    passes_once(opt, model)
    with pytest.raises(UsageError, match="would drop the gradient"):
        loops.closure_step(opt, model, *one_batch())


@pytest.fixture
def parallel(monkeypatch):
    """A model as two processes wrap it, in a group of one that says it is two."""
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    wrapped = DistributedDataParallel(make_model())
    monkeypatch.setattr(dist, "get_world_size", lambda *_: 2)
    yield wrapped
    monkeypatch.undo()
    dist.destroy_process_group()


def test_the_module_inside_a_parallel_one_is_refused_as_the_model(parallel):
    inner = parallel.module
    with pytest.raises(SettingError, match=r"give model= the DistributedDataParallel"):
        steppe.SAM(loops.momentum(inner), model=inner)
    joint = steppe.SAM(loops.momentum(inner), model=inner, sync="global")
    assert not joint._gradient_sync.local


def test_a_model_that_nobody_wraps_is_taken_in_a_group_of_processes(parallel):
    alone = make_model()
    assert not steppe.SAM(loops.momentum(alone), model=alone)._gradient_sync.local


def test_a_compiled_parallel_model_is_known_as_the_parallel_one(parallel):
    compiled = torch.compile(parallel, backend="eager")
    opt = steppe.SAM(loops.momentum(parallel), model=compiled)
    passes = []
    x, y = one_batch()
    for _ in opt.passes():
        passes.append(parallel.require_backward_grad_sync)
        with parallel.no_sync():
            F.cross_entropy(parallel(x), y).backward()
    assert passes == [False, True]


def test_the_adaptive_flag_of_other_libraries_names_what_it_is_here():
    with pytest.raises(UnknownNameError, match=r"steppe\.ASAM"):
        steppe.SAM(loops.momentum(make_model()), adaptive=True)


@pytest.mark.parametrize("name", ["first_step", "second_step"])
def test_the_calls_of_the_two_call_form_say_where_they_are(name):
    opt = steppe.SAM(loops.momentum(make_model()))
    assert not hasattr(opt, name)
    with pytest.raises(AttributeError, match=r"steppe\.compat"):
        getattr(opt, name)


@pytest.mark.parametrize("text", ["sam:rho=0.1 gate=every(5)", "sam:rho=0.1  k = 2"])
def test_a_text_without_its_comma_names_the_place(text):
    with pytest.raises(SettingError, match=r"a comma is missing before (gate|k) in"):
        OPTIMIZERS.parse(text)
