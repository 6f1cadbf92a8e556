"""Loops, closures and steps of optimizers in ways that go wrong elsewhere."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import loops
import steppe
from loops import base_step, loop_step, make_model, values
from methods import EVERY, make, one_batch, passes_once, setting
from steppe.errors import SettingError, UsageError


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


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_a_gradient_with_a_graph_is_added_to_no_other_share():
    net = make_model()
    opt = steppe.LPFSGD(torch.optim.SGD(net.parameters(), lr=0.1), micro_batches=2)
    x, y = one_batch()
    before = values(net)

    def closure():
        inputs, targets = opt.take(x, y)
        loss = F.cross_entropy(net(inputs), targets)
        loss.backward(create_graph=True)
        return loss

    with pytest.raises(UsageError, match="create_graph=True"):
        opt.step(closure)
    assert loops.identical(values(net), before)


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


def clip_value(params):
    nn.utils.clip_grad_value_(params, 1.0)


def replace_infinities(params):
    for p in params:
        p.grad.nan_to_num_(0.0, 1.0, -1.0)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("repair", [clip_value, replace_infinities])
def test_a_training_goes_on_after_an_overflow_made_finite(repair, told):
    model = make_model()
    params = list(model.parameters())
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    settings = {"scaler": scaler} if told else {}
    opt = steppe.SAM(torch.optim.SGD(params, lr=0.1), rho=0.05, **settings)
    start = values(model)
    for factor in (float("inf"), 1.0, 1.0):
        for _ in opt.passes():
            loss = sum(p.square().sum() for p in params) * factor
            scaler.scale(loss).backward()
        scaler.unscale_(opt)
        repair(params)
        scaler.step(opt)
        scaler.update()
    assert opt.steps == 2
    assert not loops.identical(values(model), start)


def test_a_dropped_gradient_is_refused_again_after_a_skipped_step():
    model = make_model()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    opt = steppe.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
    loop = [(scaler.scale, float("inf")), (lambda loss: loss, 1.0)]
    for scale, factor in loop:
        for _ in opt.passes():
            x, y = next(loops.batches(1))
            scale(F.cross_entropy(model(x), y) * factor).backward()
        scaler.unscale_(opt) if factor > 1 else None
        scaler.step(opt) if factor > 1 else None
    with pytest.raises(UsageError, match="no step"):
        opt.passes()


@pytest.mark.parametrize("clears", [True, False])
def test_a_closure_may_clear_gradients_by_the_model(clears):
    model, plain = make_model(), make_model()
    x, y = next(loops.batches(1))
    opt = steppe.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05)
    opt.zero_grad()
    F.cross_entropy(model(x), y).backward()

    def closure():
        if clears:
            model.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return loss

    loop_step(steppe.SAM(torch.optim.SGD(plain.parameters(), lr=0.1)), plain, x, y)
    outcome = {True: values(plain), False: values(model)}[clears]
    context = {True: nullcontext(), False: pytest.raises(UsageError, match="would lo")}
    with context[clears]:
        opt.step(closure)
    assert loops.identical(values(model), outcome)


@EVERY
def test_a_closure_may_leave_backward_to_the_step(entry):
    model, expected = make_model(), make_model()
    opt = make(entry, loops.base_for(entry, model))
    other = make(entry, loops.base_for(entry, expected))
    for x, y in loops.batches(2):
        loss = opt.step(lambda x=x, y=y: F.cross_entropy(model(x), y))
        wanted = other.step(lambda x=x, y=y: _loss_after_backward(expected, x, y))
        assert not loss.requires_grad
        assert torch.equal(loss, wanted)
    assert loops.identical(values(model), values(expected))


def _loss_after_backward(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Any:
    loss = F.cross_entropy(model(x), y)
    loss.backward()
    return loss


def _loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Any:
    return F.cross_entropy(model(x), y)


@pytest.mark.parametrize("evaluate", [_loss_after_backward, _loss])
def test_a_closure_that_reaches_no_parameter_is_refused(evaluate):
    opt = steppe.SAM(torch.optim.SGD(make_model().parameters(), lr=0.1))
    elsewhere = make_model()
    with pytest.raises(UsageError, match="no parameter has a gradient after pass 1"):
        opt.step(lambda: evaluate(elsewhere, *next(loops.batches(1))))
