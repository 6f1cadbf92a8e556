"""Lightning trains as a plain loop does, with every optimizer."""

from __future__ import annotations

from typing import Any

import pytest
import schedulefree
import torch
from torch import nn
from torch.nn import functional as F

import loops
import steppe
from integrations.harness import (
    EVERY_EXAMPLE,
    EVERY_METHOD,
    assert_same,
    lpf_sgd,
    of_two_ranks,
    plain_loop,
    run_page,
    sam,
)
from integrations.lightning_modules import (
    Fabric,
    Flat,
    FlatBrief,
    FlatOfItsRank,
    LightningModule,
    Manual,
    MixedPrecision,
    ModelCheckpoint,
    NaiveManual,
    Plain,
    SingleDeviceStrategy,
    SteppeModule,
    StochasticWeightAveraging,
    fit,
    step,
)
from steppe import compat
from steppe.errors import UsageError

pytestmark = [  # what Lightning itself causes or advises
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty"),
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
]


@EVERY_EXAMPLE
def test_automatic_optimization_equals_the_plain_loop(make, tmp_path):
    batches = list(loops.batches(3))
    module = Flat(make)
    trainer = fit(module, batches, tmp_path)
    assert trainer.global_step == 3
    assert_same(module.model, plain_loop(make, batches))


@EVERY_EXAMPLE
def test_accumulated_batches_equal_one_large_batch(make, tmp_path):
    batches = list(loops.batches(4))
    module = Flat(make)
    trainer = fit(module, batches, tmp_path, accumulate_grad_batches=2)
    assert trainer.global_step == 2
    assert_same(module.model, plain_loop(make, batches, window=2))


@EVERY_METHOD
def test_clipping_and_schedules_act_once_per_step(make, tmp_path):
    batches = list(loops.batches(4))
    module = Flat(make, decay=0.5)
    more = {"gradient_clip_val": 0.05, "accumulate_grad_batches": 2}
    fit(module, batches, tmp_path, **more)
    plain = plain_loop(make, batches, window=2, clip=0.05, decay=0.5)
    assert_same(module.model, plain)


@EVERY_EXAMPLE
def test_manual_optimization_equals_the_plain_loop(make, tmp_path):
    batches = list(loops.batches(3))
    module = Manual(make, decay=0.5)
    trainer = fit(module, batches, tmp_path)
    assert trainer.global_step == 3
    assert_same(module.model, plain_loop(make, batches, decay=0.5))


@EVERY_METHOD
def test_mixed_precision_equals_the_plain_loop_under_autocast(make, tmp_path):
    batches = [(x.float(), y) for x, y in loops.batches(3)]
    module = Flat(make, model=loops.make_model().float())
    fit(module, batches, tmp_path, precision="bf16-mixed")
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        plain = plain_loop(make, batches, model=loops.make_model().float())
    assert_same(module.model, plain, atol=1e-6)


@EVERY_METHOD
def test_a_gradient_scaler_unscales_once_per_step(make, tmp_path):
    batches = list(loops.batches(4))  # in double precision, which autocast leaves alone
    scaler = torch.amp.GradScaler("cpu")
    half = MixedPrecision("16-mixed", "cpu", scaler)
    module = Flat(make)
    more = {"gradient_clip_val": 0.05, "accumulate_grad_batches": 2, "plugins": [half]}
    fit(module, batches, tmp_path, **more)
    assert_same(module.model, plain_loop(make, batches, window=2, clip=0.05))
    assert scaler.get_scale() == 2**16


@EVERY_METHOD
def test_resuming_equals_never_stopping(make, tmp_path):
    batches = list(loops.batches(3))

    def run(module: LightningModule, path: Any = None) -> None:
        saver = ModelCheckpoint(tmp_path, every_n_epochs=1, save_top_k=-1)
        more = {"enable_checkpointing": True, "callbacks": [saver], "max_epochs": 2}
        fit(module, batches, tmp_path, ckpt_path=path, **more)

    straight, resumed = Flat(make, decay=0.5), Flat(make, decay=0.5)
    run(straight)
    run(resumed, next(tmp_path.glob("*step=3.ckpt")))
    assert loops.identical(loops.values(resumed), loops.values(straight))
    assert len(resumed.calls) < len(straight.calls)
    assert_same(resumed.model, plain_loop(make, 2 * batches, decay=0.5))


def test_hooks_logs_and_batch_norm_run_as_with_a_plain_optimizer(tmp_path):
    batches = list(loops.batches(4))
    seen = []
    for make in (loops.momentum, sam):
        module = Flat(make, model=loops.make_model(batch_norm=True))
        fit(module, batches, tmp_path, accumulate_grad_batches=2)
        names = ("log", "on_before_optimizer_step", "training_step")
        counts = [module.calls.count(name) for name in names]
        seen.append((*counts, module.model[1].num_batches_tracked.item()))
    assert seen == [(4, 2, 4, 4), (4, 2, 8, 4)]


class Free(Plain):
    """Switches a schedule-free base, as the page on trainers says."""

    def configure_optimizers(self):
        base = schedulefree.SGDScheduleFree(self.parameters(), lr=0.5)
        return steppe.SAM(base, rho=0.3)

    def on_train_batch_start(self, batch, batch_idx):
        self.optimizers().train()

    def on_validation_start(self):
        self.optimizers().eval()
        self.calls.append(torch.cat([p.flatten() for p in self.parameters()]).detach())

    def validation_step(self, batch, batch_idx):
        pass


class FlatFree(SteppeModule, Free):
    pass


@pytest.mark.cross_library
def test_a_schedule_free_base_is_switched_by_hooks_of_the_module(tmp_path):
    batches = list(loops.batches(4))
    module, plain = FlatFree(None), loops.make_model()
    more = {"max_epochs": 2, "num_sanity_val_steps": 0, "val_batches": batches[:1]}
    fit(module, batches, tmp_path, accumulate_grad_batches=2, **more)
    base = schedulefree.SGDScheduleFree(plain.parameters(), lr=0.5)
    opt = steppe.SAM(base, rho=0.3)
    seen = [point for point in module.calls if isinstance(point, torch.Tensor)]
    assert len(seen) == 2
    for point in seen:
        opt.train()
        plain_loop(lambda _: opt, batches, window=2, model=plain)
        opt.eval()
        here = torch.cat([p.flatten() for p in plain.parameters()])
        torch.testing.assert_close(point, here, rtol=0, atol=1e-12)


def test_a_method_with_one_pass_costs_one_gradient(tmp_path):
    for window in (1, 2, 4):
        module = Flat(lpf_sgd)
        rows: list[int] = []
        module.model.register_forward_hook(lambda _, x, y, to=rows: to.append(len(y)))
        fit(module, list(loops.batches(4)), tmp_path, accumulate_grad_batches=window)
        assert sum(rows) == 4 * loops.ROWS


@pytest.mark.parametrize("window", [2, 4])
def test_without_the_adapter_accumulated_batches_are_refused(window, tmp_path):
    batches = list(loops.batches(4))
    with pytest.raises(UsageError, match=r"added up .* see steppe.integrations"):
        fit(Plain(sam), batches, tmp_path, accumulate_grad_batches=window)


def test_without_the_adapter_single_batches_equal_the_plain_loop(tmp_path):
    batches = list(loops.batches(3))
    module = Plain(sam)
    fit(module, batches, tmp_path)
    assert_same(module.model, plain_loop(sam, batches))


def test_training_step_may_be_called_by_hand():
    batch = next(loops.batches(1))
    module = Flat(sam)
    expected = F.cross_entropy(module.model(batch[0]), batch[1])
    with pytest.warns(UserWarning, match="reference is not registered"):
        assert torch.equal(module.training_step(batch, 0), expected)


def test_a_module_that_hides_the_adapter_is_refused():
    with pytest.raises(UsageError, match=r"write class Flat\(SteppeModule, MyModule\)"):

        class Hidden(SteppeModule, LightningModule):
            def training_step(self, batch, batch_idx):
                return None


class AccumulatingStrategy(SingleDeviceStrategy):
    handles_gradient_accumulation = True


def test_a_strategy_that_accumulates_by_itself_is_refused(tmp_path):
    module, strategy = Flat(sam), AccumulatingStrategy("cpu")
    with pytest.raises(UsageError, match=r"got AccumulatingStrategy; use DDPStrategy"):
        fit(module, list(loops.batches(2)), tmp_path, strategy=strategy)


def test_an_override_that_keeps_no_batches_is_refused(tmp_path):
    class Forgetful(Flat):
        def on_train_batch_start(self, batch, batch_idx):
            return None

    with pytest.raises(UsageError, match="no micro-batch was kept"):
        fit(Forgetful(sam), list(loops.batches(1)), tmp_path)


def test_step_refuses_other_optimizers():
    model = nn.Linear(2, 2)
    with pytest.raises(UsageError, match=r"call optimizer.step\(\) of any other"):
        step(loops.momentum(model))


@EVERY_METHOD
def test_a_training_step_may_take_the_batch_alone_and_return_a_dict(make, tmp_path):
    batches = list(loops.batches(4))
    module = FlatBrief(make)
    fit(module, batches, tmp_path, accumulate_grad_batches=2)
    assert_same(module.model, plain_loop(make, batches, window=2))


def test_the_last_window_of_an_epoch_may_be_short(tmp_path):
    (x, y), (u, v), last = loops.batches(3)
    module = Flat(sam)
    fit(module, [(x, y), (u, v), last], tmp_path, accumulate_grad_batches=2)
    model = loops.make_model()
    opt = sam(model)
    for inputs, targets, scale in [
        (torch.cat([x, u]), torch.cat([y, v]), 1.0),
        (*last, 0.5),  # Lightning divides by the length of a full window
    ]:
        for _ in opt.passes():
            (scale * F.cross_entropy(model(inputs), targets)).backward()
        opt.step()
    assert_same(module.model, model)


class TwoOptimizers(Manual):
    def training_step(self, batch, batch_idx):
        steppes = self.optimizers(use_pl_optimizer=False)
        for opt, wrapper in zip(steppes, self.optimizers(), strict=True):
            for _ in opt.passes():
                self.manual_backward(F.cross_entropy(self.model(batch[0]), batch[1]))
            step(wrapper)

    def configure_optimizers(self):
        return two_optimizers(self.model)


def two_optimizers(model: nn.Module) -> list[torch.optim.Optimizer]:
    first, last = loops.momentum(model[0]), loops.momentum(model[2])
    return [steppe.SAM(first, rho=0.3), steppe.WSAM(last, rho=0.1)]


def test_manual_optimization_takes_turns_between_optimizers(tmp_path):
    batches = list(loops.batches(3))
    module = TwoOptimizers(None)
    assert fit(module, batches, tmp_path).global_step == 6
    plain = loops.make_model()
    both = two_optimizers(plain)
    for x, y in batches:
        for opt in both:
            for _ in opt.passes():
                F.cross_entropy(plain(x), y).backward()
            opt.step()
    assert_same(module.model, plain)


@EVERY_EXAMPLE
def test_a_loop_of_fabric_needs_no_adapter(make):
    fabric = Fabric(accelerator="cpu", devices=1)
    batches, inner = list(loops.batches(3)), loops.make_model()
    opt = make(inner)
    model, optimizer = fabric.setup(inner, opt)
    for x, y in batches:
        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            fabric.backward(F.cross_entropy(model(xs), ys))
        optimizer.step()
    assert_same(inner, plain_loop(make, batches))


def two_calls(model: nn.Module) -> torch.optim.Optimizer:
    return compat.SAM(model.parameters(), torch.optim.SGD, rho=0.3, lr=0.1)


def set_closure(model: nn.Module) -> torch.optim.Optimizer:
    base, rho = (
        torch.optim.SGD(model.parameters(), lr=0.1),
        compat.LinearScheduler(T_max=10, max_value=0.3, min_value=0.3),
    )
    return compat.GSAM(model.parameters(), base, model, 0.4, rho)


def two_backwards(opt: Any, backward: Any, model: nn.Module, x: Any, y: Any) -> None:
    backward(F.cross_entropy(model(x), y))
    opt.first_step(zero_grad=True)
    backward(F.cross_entropy(model(x), y))
    opt.finish()


def one_closure(opt: Any, backward: Any, model: nn.Module, x: Any, y: Any) -> None:
    opt.set_closure(F.cross_entropy, x, y)


def passes_of(method: Any, **settings: Any) -> Any:
    """The same as a loop of passes, with the base of the forms above."""

    def make(model: nn.Module) -> Any:
        return method(torch.optim.SGD(model.parameters(), lr=0.1), **settings)

    return make


CALLS = pytest.mark.parametrize(
    ("make", "calls", "same"),
    [
        (two_calls, two_backwards, passes_of(steppe.SAM, rho=0.3)),
        (set_closure, one_closure, passes_of(steppe.GSAM, rho=0.3, alpha=0.4)),
    ],
)


@CALLS
def test_calls_of_other_libraries_run_in_a_loop_of_fabric(make, calls, same):
    fabric = Fabric(accelerator="cpu", devices=1)
    batches, inner = list(loops.batches(3)), loops.make_model()
    model, optimizer = fabric.setup(inner, make(inner))
    for x, y in batches:
        calls(optimizer, fabric.backward, model, x, y)
        optimizer.step()
        optimizer.zero_grad()
    assert_same(inner, plain_loop(same, batches))


class ManualCalls(Manual):
    """Optimizes by the calls of another library."""

    def training_step(self, batch, batch_idx):
        opt = self.optimizers()
        self.calls_of_a_step(opt, self.manual_backward, self.model, *batch)
        step(opt)
        opt.zero_grad()


@CALLS
def test_calls_of_other_libraries_run_in_manual_optimization(
    make, calls, same, tmp_path
):
    batches = list(loops.batches(3))
    module = ManualCalls(make)
    module.calls_of_a_step = calls
    assert fit(module, batches, tmp_path).global_step == 3
    assert_same(module.model, plain_loop(same, batches))


def test_a_second_step_in_manual_optimization_gives_the_same_weights(tmp_path):
    class SecondStep(Manual):
        def training_step(self, batch, batch_idx):
            opt = self.optimizers()
            x, y = batch
            self.manual_backward(F.cross_entropy(self.model(x), y))
            opt.first_step(zero_grad=True)
            self.manual_backward(F.cross_entropy(self.model(x), y))
            opt.second_step(zero_grad=True)

    batches = list(loops.batches(3))
    module = SecondStep(two_calls)
    fit(module, batches, tmp_path)
    assert_same(module.model, plain_loop(passes_of(steppe.SAM, rho=0.3), batches))


@CALLS
def test_lightnings_own_step_of_these_calls_is_refused_in_a_sentence(
    make, calls, same, tmp_path
):
    class Naive(Manual):
        def training_step(self, batch, batch_idx):
            opt = self.optimizers()
            calls(opt, self.manual_backward, self.model, *batch)
            opt.step()

    with pytest.raises(UsageError, match=r"see steppe.integrations.lightning.step"):
        fit(Naive(make), list(loops.batches(1)), tmp_path)


class Averaged(Flat):
    """Keeps an average, attached to what Lightning calls the optimizer."""

    def on_train_start(self):
        super().on_train_start()
        self.average = steppe.EMA(self.model)
        self.average.attach(self.optimizers())


@EVERY_METHOD
def test_an_average_attached_to_lightnings_optimizer_counts_steps(make, tmp_path):
    module = Averaged(make)
    fit(module, list(loops.batches(6)), tmp_path, accumulate_grad_batches=2)
    assert module.average.steps == 3


class PerEpoch(Flat):
    """Has no schedule of its own."""

    def configure_optimizers(self):
        return self.make(self.model)


def averaged_by_hand(batches: Any, epochs: int) -> nn.Module:
    """The mean of the weights that epochs begin with, after the first of them."""
    model = loops.make_model(batch_norm=True)
    opt = steppe.SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.3, model=model)
    starts = []
    for _ in range(epochs):
        starts.append(loops.values(model))
        for x, y in batches:
            for _ in opt.passes():
                F.cross_entropy(model(x), y).backward()
            opt.step()
    with torch.no_grad():
        for p, *each in zip(model.parameters(), *starts, strict=True):
            p.copy_(torch.stack(each).mean(0))
    return model


def test_the_averaging_callback_refreshes_batch_norm_and_steps_no_more(tmp_path):
    batches = list(loops.batches(3))
    make = passes_of(steppe.SAM, rho=0.3)
    module = PerEpoch(make, model=loops.make_model(batch_norm=True))
    averaging = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1)
    fit(module, batches, tmp_path, max_epochs=3, callbacks=[averaging])
    by_hand = averaged_by_hand(batches, 3)
    assert_same(module.model, by_hand)
    inputs = [by_hand[0](x) for x, _ in batches]
    means = torch.stack([x.mean(0) for x in inputs]).mean(0)
    torch.testing.assert_close(module.model[1].running_mean, means)
    assert module.model[1].num_batches_tracked == 3


class EndsEarly(Plain):
    """Its first epoch ends with the second batch that it is offered."""

    def on_train_batch_start(self, batch, batch_idx):
        return -1 if (self.current_epoch, batch_idx) == (0, 1) else None


class FlatEndsEarly(SteppeModule, EndsEarly):
    pass


def plain_sam(model: nn.Module) -> torch.optim.Optimizer:
    """SAM that is its base."""
    return steppe.SAM(loops.momentum(model), rho=0.0)


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step")
def test_a_window_that_an_epoch_cuts_short_is_dropped_as_without_the_adapter(tmp_path):
    batches = list(loops.batches(4))
    models = []
    for module in (EndsEarly(loops.momentum), FlatEndsEarly(plain_sam)):
        more = {"accumulate_grad_batches": 2, "max_epochs": 2}
        assert fit(module, batches, tmp_path, **more).global_step == 2
        models.append(module.model)
    assert_same(*models)
    assert_same(models[0], plain_loop(plain_sam, batches, window=2))


class LeavesOut(Plain):
    """Gives no loss for the second and the third batch."""

    def training_step(self, batch, batch_idx):
        return None if batch_idx in (1, 2) else super().training_step(batch, batch_idx)


class FlatLeavesOut(SteppeModule, LeavesOut):
    pass


@pytest.mark.parametrize("window", [1, 2])
@pytest.mark.filterwarnings("ignore:.training_step. returned .None.")
def test_batches_that_training_step_leaves_out_are_left_out_of_the_step(
    window, tmp_path
):
    batches = list(loops.batches(4))
    models = []
    for module in (LeavesOut(loops.momentum), FlatLeavesOut(plain_sam)):
        fit(module, batches, tmp_path, accumulate_grad_batches=window)
        models.append(module.model)
    assert_same(*models)
    assert not loops.identical(*map(loops.values, (models[0], loops.make_model())))


class ByName(Plain):
    """Its training_step takes what it needs by name."""

    def training_step(self, batch, **named):
        return super().training_step(batch, 0)


class FlatByName(SteppeModule, ByName):
    pass


def test_a_training_step_may_take_the_rest_by_name(tmp_path):
    batches = list(loops.batches(2))
    module = FlatByName(sam)
    fit(module, batches, tmp_path)
    assert_same(module.model, plain_loop(sam, batches))


@pytest.mark.parametrize("after", [0, 3])  # between steps, and in the second pass
def test_what_fails_leaves_the_weights_clean_and_can_be_tried_again(after, tmp_path):
    batches = list(loops.batches(2))
    module = Flat(sam)
    before = loops.values(module)
    module.backward = FailingBackward(after)
    with pytest.raises(MemoryError):
        fit(module, batches, tmp_path, accumulate_grad_batches=2)
    assert loops.identical(loops.values(module), before)
    del module.backward
    fit(module, batches, tmp_path, accumulate_grad_batches=2)
    assert_same(module.model, plain_loop(sam, batches, window=2))


class FailingBackward:
    def __init__(self, after: int) -> None:
        self.left = after

    def __call__(self, loss: torch.Tensor) -> None:
        self.left -= 1
        if self.left < 0:
            raise MemoryError
        loss.backward()


def test_manual_optimization_without_the_adapter_is_refused(tmp_path):
    with pytest.raises(UsageError, match="closure must return the loss"):
        fit(NaiveManual(sam), list(loops.batches(1)), tmp_path)


def test_the_code_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_page("Lightning")["average"].average.steps == 8


@pytest.mark.slow
@pytest.mark.parametrize(("make", "window"), [(sam, 2), (lpf_sgd, 1)])
def test_two_processes_equal_one_with_their_batches_joined(make, window, tmp_path):
    module = FlatOfItsRank(make)
    more = {"strategy": "ddp_spawn", "devices": 2, "use_distributed_sampler": False}
    fit(module, None, tmp_path, accumulate_grad_batches=window, **more)
    joined = of_two_ranks(list(loops.batches(8)), window)
    assert_same(module.model, plain_loop(make, joined))
