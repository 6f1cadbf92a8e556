"""What every registered average promises; read from its declared facts."""

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
import problems
import steppe
from loops import base_step, identical, make_model, values
from steppe.averaging import AVERAGES
from steppe.errors import CheckpointError, SettingError, UsageError
from steppe.registry.registry import Entry

STEPS = 7  # enough for every example to have something, and rings to be full

EVERY = pytest.mark.parametrize("entry", list(AVERAGES), ids=lambda entry: entry.name)


def make(entry: Entry, model: nn.Module, **more: Any) -> Any:
    return entry.make(model, **{**entry.spec.example, **more})


def walk(model: nn.Module, average: Any, steps: int = STEPS, seed: int = 0) -> None:
    """Move all parameters at random, and update after every step."""
    source = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn(p.shape, generator=source).to(p.dtype))
        average.update()


def apply_and_fail(average: Any, model: nn.Module) -> None:
    with average.applied():
        model(next(loops.batches(1))[0])  # writes running statistics
        raise MemoryError


def walked(entry: Entry, model: nn.Module, **more: Any) -> Any:
    average = make(entry, model, **more)
    walk(model, average)
    return average


def everything(model: nn.Module) -> list[torch.Tensor]:
    return [t.clone() for t in model.state_dict().values()]


def stored(average: Any) -> Any:
    """The state after a round through a file of data only."""
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@EVERY
def test_the_model_holds_the_average_inside_and_its_own_weights_after(entry):
    model = make_model(batch_norm=True)
    average = walked(entry, model)
    before = everything(model)
    with average.applied():
        inside = dict(model.named_parameters())
        assert all(torch.equal(inside[n], average.tensors()[n]) for n in inside)
        assert not torch.equal(model[0].weight, before[0])
        model.train()
        model(next(loops.batches(1))[0])  # writes running statistics
    assert identical(everything(model), before)


@EVERY
def test_an_exception_inside_leaves_the_model_clean(entry):
    model = make_model(batch_norm=True)
    average = walked(entry, model)
    before = everything(model)
    with pytest.raises(MemoryError):
        apply_and_fail(average, model)
    assert identical(everything(model), before)
    with average.applied():
        pass


@EVERY
def test_the_model_is_not_touched_by_updates(entry):
    model = make_model(batch_norm=True)
    average = walked(entry, model)
    F.cross_entropy(model(next(loops.batches(1))[0]), torch.zeros(12).long()).backward()
    before, grads = everything(model), [p.grad for p in model.parameters()]
    places = [p.data_ptr() for p in model.parameters()]
    average.update()
    with average.applied():
        pass
    assert identical(everything(model), before)
    assert all(p.grad is g for p, g in zip(model.parameters(), grads, strict=True))
    assert [p.data_ptr() for p in model.parameters()] == places


@EVERY
def test_nested_use_and_updates_inside_are_refused(entry):
    model = make_model()
    average = walked(entry, model)
    before = everything(model)
    with average.applied():
        with pytest.raises(UsageError, match="applied\\(\\) is on already"):
            with average.applied():
                pass
        with pytest.raises(UsageError, match="average the average"):
            average.update()
    assert identical(everything(model), before)
    assert average.steps == STEPS


@EVERY
@pytest.mark.parametrize("stop", range(1, STEPS))
def test_resuming_equals_never_stopping(entry, stop):
    model = make_model(batch_norm=True)
    straight = make(entry, model)
    walk(model, straight, stop)
    resumed = make(entry, model)
    resumed.load_state_dict(stored(straight))
    twin = copy.deepcopy(model)
    walk(model, straight, STEPS, seed=1)
    resumed.model.load_state_dict(twin.state_dict())
    walk(model, resumed, STEPS, seed=1)
    expected = straight.tensors()
    assert all(torch.equal(t, expected[n]) for n, t in resumed.tensors().items())
    assert (resumed.steps, resumed.count) == (straight.steps, straight.count)
    assert resumed.numbers() == straight.numbers()


@EVERY
@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))]
)
def test_a_copy_goes_on_like_the_original_and_apart_from_it(entry, copied):
    model = make_model()
    average = walked(entry, model)
    twin, twin_average = copied((model, average))
    walk(twin, twin_average, seed=1)
    assert average.steps == STEPS
    walk(model, average, seed=1)
    expected = average.tensors()
    assert all(torch.equal(t, expected[n]) for n, t in twin_average.tensors().items())


@EVERY
def test_the_declared_number_of_copies_is_kept(entry):
    model = make_model()
    average = make(entry, model)
    kept = []
    for _ in range(20):
        walk(model, average, 1)
        kept.append(len(average.state_dict()["copies"]))
        if entry.spec.validates:
            average.validate(1.0)
    assert max(kept) == entry.spec.copies


@EVERY
def test_a_step_costs_no_gradient(entry):
    model = make_model()
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    walked(entry, model)
    assert len(calls) == entry.spec.grad_evals == 0
    assert all(p.grad is None for p in model.parameters())


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_value_that_never_changes_is_its_own_average_bit_for_bit(entry, dtype):
    model = make_model(batch_norm=True).to(dtype)
    average = make(entry, model, buffers="average")
    for _ in range(STEPS):
        average.update()
    before = everything(model)
    with average.applied():
        assert identical(everything(model), before)


@EVERY
def test_frozen_parameters_are_averaged_once_they_move(entry):
    model = make_model()
    model[0].weight.requires_grad_(False)
    average = walked(entry, model)
    assert not torch.equal(average.tensors()["0.weight"], model[0].weight)


@EVERY
def test_a_shared_parameter_is_averaged_once(entry):
    model = problems.Tied()
    average = walked(entry, model)
    assert "second.weight" not in average.tensors()
    with average.applied():
        assert model.second.weight is model.first.weight
        assert torch.equal(model.first.weight, average.tensors()["first.weight"])


@EVERY
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_averages_of_half_precision_are_those_of_float32_weights(entry, half):
    model, wide = make_model().to(half), make_model().to(half).float()
    average, reference = make(entry, model), make(entry, wide)
    source = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        with torch.no_grad():
            for p, q in zip(model.parameters(), wide.parameters(), strict=True):
                q.copy_(p.add_(torch.randn(p.shape, generator=source).to(half)))
        average.update()
        reference.update()
    assert identical(
        list(average.tensors().values()), list(reference.tensors().values())
    )
    with average.applied():
        expected = average.tensors()["0.weight"].to(half)
        assert torch.equal(model[0].weight, expected)


@EVERY
def test_the_precision_of_the_average_can_be_chosen(entry):
    model = make_model().float()
    average = walked(entry, model, dtype=torch.float64)
    assert {t.dtype for t in average.tensors().values()} == {torch.float64}
    with pytest.raises(SettingError, match="dtype must be of real numbers, got"):
        make(entry, model, dtype=torch.int32)


@EVERY
def test_buffers_are_those_of_the_model_or_averaged(entry):
    for policy in ("copy", "average"):
        model = make_model(batch_norm=True)
        average = make(entry, model, buffers=policy)
        for _ in range(STEPS):
            model[1].running_mean.add_(1.0)
            model[1].num_batches_tracked.add_(1)
            average.update()
        with average.applied():
            mean = model[1].running_mean
            assert (mean[0] == STEPS) == (policy == "copy")
            assert (mean == mean[0]).all()
            assert model[1].num_batches_tracked == STEPS
    with pytest.raises(SettingError, match="buffers must be 'copy' or 'average', got"):
        make(entry, model, buffers="both")


@EVERY
def test_running_statistics_need_re_estimation_unless_they_are_averaged(entry):
    model = make_model(batch_norm=True)
    average = make(entry, model)
    walk(model, average)
    averaged = "1.running_var" in average.tensors()
    assert averaged == (not entry.spec.reestimate)


@EVERY
def test_the_average_can_be_written_into_another_model(entry):
    model, other = make_model(batch_norm=True), make_model(batch_norm=True).float()
    average = walked(entry, model)
    model[1].running_mean.fill_(3.0)
    average.copy_to(other)
    expected = average.tensors()
    for name, p in other.named_parameters():
        assert torch.equal(p, expected[name].float())
    if "1.running_mean" not in expected:
        assert (other[1].running_mean == 3.0).all()


@EVERY
def test_statistics_estimated_inside_go_with_the_average_and_not_with_the_model(entry):
    model, other = make_model(batch_norm=True), make_model(batch_norm=True)
    average = walked(entry, model, buffers="copy")
    batches, before = [x for x, _ in loops.batches(3)], everything(model)
    with average.applied():
        steppe.averaging.reestimate(model, batches)
        inside = everything(model)
        average.copy_to(other)
    assert identical(everything(other), inside)
    assert identical(everything(model), before)
    with torch.no_grad():
        hidden = other[0](torch.cat(batches))
    torch.testing.assert_close(other[1].running_mean, hidden.mean(0))


@EVERY
def test_a_model_built_otherwise_is_refused_before_anything_is_written(entry):
    average = walked(entry, make_model())
    for other in (make_model(batch_norm=True), nn.Sequential(nn.Linear(5, 7))):
        before = everything(other)
        with pytest.raises(SettingError, match="differs from the averaged one in"):
            average.copy_to(other)
        assert identical(everything(other), before)


@EVERY
@pytest.mark.parametrize(
    "wrap",
    [lambda base: base, lambda base: steppe.SAM(base, rho=0.05)],
    ids=["sgd", "sam"],
)
def test_attached_it_counts_every_optimizer_step_once(entry, wrap):
    model, plain = make_model(), make_model()
    opt, twin = wrap(loops.momentum(model)), wrap(loops.momentum(plain))
    average, by_hand = make(entry, model), make(entry, plain)
    average.attach(opt)
    train = loops.loop_step if isinstance(opt, steppe.SAM) else base_step
    for x, y in loops.batches(STEPS):
        train(opt, model, x, y)
        train(twin, plain, x, y)
        by_hand.update()
    assert average.steps == STEPS
    expected = by_hand.tensors()
    assert all(torch.equal(t, expected[n]) for n, t in average.tensors().items())
    assert identical(values(model), values(plain))
    average.detach()
    train(opt, model, *next(loops.batches(1)))
    assert average.steps == STEPS
    average.attach(opt)


@EVERY
def test_a_copy_of_all_three_stays_attached_to_its_own_optimizer(entry):
    model = make_model()
    opt = steppe.SAM(loops.momentum(model), rho=0.05)
    average = make(entry, model)
    average.attach(opt)
    twin, twin_opt, twin_average = copy.deepcopy((model, opt, average))
    loops.loop_step(twin_opt, twin, *next(loops.batches(1)))
    assert (average.steps, twin_average.steps) == (0, 1)
    twin_average.detach()
    loops.loop_step(twin_opt, twin, *next(loops.batches(1)))
    assert twin_average.steps == 1


@EVERY
def test_attaching_twice_or_to_a_stranger_is_refused(entry):
    model = make_model()
    average = make(entry, model)
    with pytest.raises(SettingError, match=r"needs a torch\.optim\.Optimizer"):
        average.attach(model)
    with pytest.raises(SettingError, match="none of the parameters"):
        average.attach(loops.momentum(make_model()))
    average.attach(loops.momentum(model))
    with pytest.raises(UsageError, match="attached already"):
        average.attach(loops.momentum(model))


@EVERY
def test_a_step_that_a_gradient_scaler_skips_does_not_count(entry):
    model = make_model()
    opt = loops.momentum(model)
    average = make(entry, model)
    average.attach(opt)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0)
    x, y = next(loops.batches(1))
    for factor in (float("inf"), 1.0):
        opt.zero_grad()
        scaler.scale(F.cross_entropy(model(x), y) * factor).backward()
        scaler.step(opt)
        scaler.update()
    assert average.steps == 1


@EVERY
def test_a_change_of_the_parameters_is_one_clear_sentence(entry):
    model = make_model()
    average = walked(entry, model)
    model.append(nn.Linear(3, 3))
    for use in (average.applied().__enter__, average.state_dict):
        with pytest.raises(UsageError, match=r"3\.bias was added since the average"):
            use()
    model.pop(3)
    model[2] = nn.Linear(6, 4)
    model[0].weight = nn.Parameter(torch.zeros(6, 5))
    model[0].bias = nn.Parameter(torch.zeros(7))
    with pytest.raises(UsageError, match=r"0\.bias had shape \(6,\).*of shape \(7,\)"):
        walk(model, average)


@EVERY
def test_a_model_that_moves_to_another_device_is_one_clear_sentence(entry):
    average = walked(entry, make_model())
    average.model.to("meta")
    with pytest.raises(UsageError, match="moved from cpu to meta; move the model"):
        average.weights()


@EVERY
def test_a_parameter_that_is_gone_is_one_clear_sentence(entry):
    model = make_model()
    average = walked(entry, model)
    model[0].bias = None
    with pytest.raises(UsageError, match=r"0\.bias had shape \(6,\).* and is gone"):
        with average.applied():
            pass


@EVERY
def test_a_loaded_state_is_a_copy(entry):
    model = make_model()
    average, other = walked(entry, model), make(entry, model)
    other.load_state_dict(average.state_dict())
    before = average.tensors()
    walk(model, other)
    assert all(torch.equal(t, before[n]) for n, t in average.tensors().items())


@EVERY
def test_a_model_without_parameters_is_refused(entry):
    with pytest.raises(SettingError, match="no floating-point parameter"):
        make(entry, nn.ReLU())


@EVERY
def test_the_state_of_another_method_model_or_future_is_refused(entry):
    average = walked(entry, make_model())
    before = average.tensors()
    state = average.state_dict()
    refused = {
        "is of Other, not of": {**state, "method": "Other"},
        "upgrade steppe": {**state, "format": 99},
        "has an entry 'copies'": {k: v for k, v in state.items() if k != "copies"},
        "differs from the model in 1.bias": walked(
            entry, make_model(batch_norm=True)
        ).state_dict(),
    }
    for said, wrong in refused.items():
        with pytest.raises(CheckpointError, match=said):
            average.load_state_dict(wrong)
    assert all(torch.equal(t, before[n]) for n, t in average.tensors().items())


@EVERY
def test_whole_numbers_out_of_range_are_refused_by_name(entry):
    counts = [n for n, p in entry.settings().items() if p.annotation is int]
    for name in counts:
        with pytest.raises(SettingError, match=f"{name} must be >= [01], got -1"):
            make(entry, make_model(), **{name: -1})


def test_an_average_of_nothing_is_refused():
    for average in (
        steppe.SWA(make_model(), start=5),
        steppe.LAWA(make_model(), every=5),
    ):
        average.update()
        assert average.count == 0
        for use in (average.applied().__enter__, average.tensors):
            with pytest.raises(UsageError, match="nothing has gone into the average"):
                use()


@EVERY
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_updates_never_wait_for_the_device(entry):
    model = make_model(batch_norm=True).to("cuda", torch.bfloat16)
    average = make(entry, model)
    try:
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(STEPS):
            average.update()
        with average.applied():
            pass
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert {t.device.type for t in average.tensors().values()} == {"cuda"}


@EVERY
def test_parameters_in_the_place_of_the_model_are_refused(entry):
    with pytest.raises(SettingError, match="needs the model itself"):
        entry.make(nn.Linear(2, 2).parameters())
