"""Accelerate trains as a plain loop does, with every optimizer."""

from __future__ import annotations

import pytest
import schedulefree
import torch
from accelerate.state import AcceleratorState, GradientState
from torch.nn import functional as F

import loops
import steppe
from integrations.accelerated import Training
from integrations.harness import (
    EVERY_EXAMPLE,
    Make,
    assert_same,
    assert_same_in_two_processes,
    lpf_sgd,
    plain_loop,
    run_page,
    sam,
)
from steppe.errors import UsageError
from steppe.integrations.accelerate import Window

BOTH = pytest.mark.parametrize("make", [sam, lpf_sgd])


@pytest.fixture(autouse=True)
def _a_fresh_accelerator():
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@EVERY_EXAMPLE
def test_a_training_equals_the_plain_loop(make):
    batches = list(loops.batches(3))
    assert_same(Training(make).run(batches).net, plain_loop(make, batches))


@EVERY_EXAMPLE
def test_accumulated_batches_equal_one_large_batch(make):
    batches = list(loops.batches(4))
    training = Training(make, window=2).run(batches)
    assert_same(training.net, plain_loop(make, batches, window=2))


@BOTH
@pytest.mark.parametrize("window", [2, 3])
def test_clipping_and_schedules_act_once_per_step(make, window):
    batches = list(loops.batches(6))
    training = Training(make, window=window, decay=0.5).run(batches, clip=0.05)
    plain = plain_loop(make, batches, window=window, decay=0.5, clip=0.05)
    assert_same(training.net, plain)
    assert training.accelerator.gradient_accumulation_steps == window


@BOTH
def test_the_last_window_of_an_epoch_may_be_short(make):
    batches = list(loops.batches(3))
    training = Training(make, window=2).run(batches)
    plain = loops.make_model()
    opt = make(plain)
    for taken, scale in [(batches[:2], 1.0), (batches[2:], 0.5)]:
        x, y = (torch.cat(column) for column in zip(*taken, strict=True))
        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            (scale * F.cross_entropy(plain(xs), ys)).backward()
        opt.step()
    assert_same(training.net, plain)


@BOTH
def test_mixed_precision_equals_the_plain_loop_under_autocast(make):
    batches = [(x.float(), y) for x, y in loops.batches(3)]
    model = loops.make_model().float()
    training = Training(make, model=model, mixed_precision="bf16").run(batches)
    plain, x = loops.make_model().float(), batches[0][0]
    opt = make(plain)
    for x, y in batches:
        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            with torch.autocast("cpu", torch.bfloat16):
                out = plain(xs)
            F.cross_entropy(out.float(), ys).backward()
        opt.step()
    assert_same(training.net, plain, atol=1e-6)


@BOTH
def test_a_gradient_scaler_unscales_once_per_step(make):
    batches = list(loops.batches(4))
    scaler = torch.amp.GradScaler("cpu")
    training = Training(make, window=2, scaler=scaler).run(batches)
    assert_same(training.net, plain_loop(make, batches, window=2))
    assert scaler.get_scale() == 2**16


@BOTH
def test_resuming_equals_never_stopping(make, tmp_path):
    batches = list(loops.batches(8))
    first = Training(make, window=2, decay=0.5).run(batches[:4])
    first.accelerator.save_state(tmp_path)
    first.run(batches[4:])
    resumed = Training(make, window=2, decay=0.5)
    resumed.accelerator.load_state(tmp_path)
    resumed.run(batches[4:])
    assert loops.identical(loops.values(resumed.net), loops.values(first.net))
    plain = plain_loop(make, batches, window=2, decay=0.5)
    assert_same(resumed.net, plain)


def test_running_statistics_are_those_of_one_pass():
    batches = list(loops.batches(4))
    training = Training(sam, window=2, model=loops.make_model(batch_norm=True))
    training.run(batches)
    plain = loops.make_model(batch_norm=True)
    opt = sam(plain)
    for window in (batches[:2], batches[2:]):
        for _ in opt.passes():
            for x, y in window:
                (F.cross_entropy(plain(x), y) / 2).backward()
        opt.step()
    assert_same(training.net, plain)
    assert torch.equal(training.net[1].running_mean, plain[1].running_mean)
    assert training.net[1].num_batches_tracked == 4


@pytest.mark.parametrize("make", [sam, loops.momentum])
def test_an_average_attached_to_what_was_prepared_counts_optimizer_steps(make):
    training = Training(make, window=2)
    average = steppe.EMA(training.net)
    average.attach(training.optimizer)
    if make is sam:
        training.run(list(loops.batches(6)))
    else:
        for _ in range(3):
            training.optimizer.step()
    assert average.steps == 3


def test_an_average_is_saved_and_resumed_with_the_training(tmp_path):
    batches = list(loops.batches(8))

    def make() -> tuple[Training, steppe.SWA]:
        training = Training(sam, window=2)
        average = steppe.SWA(training.net, start=1)
        average.attach(training.optimizer)
        training.accelerator.register_for_checkpointing(average)
        return training, average

    straight, first = make()
    straight.run(batches[:4])
    straight.accelerator.save_state(tmp_path)
    straight.run(batches[4:])
    resumed, second = make()
    resumed.accelerator.load_state(tmp_path)
    resumed.run(batches[4:])
    assert first.steps == second.steps == 4
    left, right = ([*average.tensors().values()] for average in (first, second))
    assert loops.identical(left, right)


@pytest.mark.cross_library
def test_what_was_prepared_switches_a_schedule_free_base():
    def make(model):
        base = schedulefree.SGDScheduleFree(model.parameters(), lr=0.5)
        return steppe.SAM(base, rho=0.3)

    batches = list(loops.batches(4))
    training = Training(make, window=2)
    training.optimizer.train()
    training.run(batches)
    plain = loops.make_model()
    opt = make(plain)
    opt.train()
    plain_loop(lambda _: opt, batches, window=2, model=plain)
    assert_same(training.net, plain)
    training.optimizer.eval()
    opt.eval()
    assert_same(training.net, plain)


def test_a_closure_without_the_adapter_equals_the_plain_loop():
    batches = list(loops.batches(3))
    training = Training(sam).run_closures(batches)
    assert_same(training.net, plain_loop(sam, batches))


def test_a_closure_is_refused_through_what_a_scaler_puts_before_the_step_too():
    training = Training(sam, window=2, scaler=torch.amp.GradScaler("cpu"))
    x, y = next(loops.batches(1))

    def closure() -> torch.Tensor:
        loss = F.cross_entropy(training.model(x), y)
        training.accelerator.backward(loss)
        return loss

    closure()  # a scaler asks for some gradient before the step
    with pytest.raises(UsageError, match="gather them with"):
        training.optimizer.step(closure)


def test_a_closure_without_the_adapter_is_refused_with_accumulated_batches():
    with pytest.raises(UsageError, match=r"gather them with steppe.integrations"):
        Training(sam, window=2).run_closures(list(loops.batches(2)))


def test_accelerate_that_accumulates_elsewhere_leaves_closures_alone():
    Training(sam, window=2)
    batches, model = list(loops.batches(2)), loops.make_model()
    opt = sam(model)
    for x, y in batches:
        loops.closure_step(opt, model, x, y)
    assert_same(model, plain_loop(sam, batches))


def test_an_ordinary_loop_is_refused():
    training = Training(sam)
    x, y = next(loops.batches(1))
    training.accelerator.backward(F.cross_entropy(training.model(x), y))
    with pytest.raises(UsageError, match="needs the gradient of a finished"):
        training.optimizer.step()


def test_a_window_refuses_other_optimizers():
    with pytest.raises(UsageError, match="got SGD; any other needs no Window"):
        Training(loops.momentum).run(list(loops.batches(1)))


def test_what_cannot_be_shared_out_is_refused_only_where_shares_are_wanted():
    texts = ["a"] * loops.ROWS
    x, y = next(loops.batches(1))

    def run(make: Make) -> None:
        training = Training(make)
        window = Window(training.accelerator, training.model, training.optimizer)
        for xs, ys, _ in window.passes(x, y, texts):
            F.cross_entropy(training.model(xs), ys).backward()

    run(sam)
    with pytest.raises(UsageError, match="shares out tensors along their rows"):
        run(lpf_sgd)


def test_the_code_of_the_page_runs():
    names = run_page("Accelerate")
    assert names["opt"].optimizer.steps == 2
    assert names["accelerator"]._custom_objects == [names["average"]]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "window"), [(sam, 1), (sam, 2), (lpf_sgd, 1)])
def test_two_processes_equal_one_with_their_batches_joined(make, window, tmp_path):
    assert_same_in_two_processes("accelerated.py", make, window, tmp_path)
