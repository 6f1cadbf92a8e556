"""Loops without an adapter: Ignite, skorch and timm by the recipes of the page."""

from __future__ import annotations

import copy
import sys
import warnings
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import loops
import steppe
from integrations.harness import assert_same, lpf_sgd, plain_loop, run_page, sam
from integrations.timm_loop import NativeScaler, train_one_epoch
from steppe.errors import UsageError

# Takes seconds to import; skorch asks for it and does without.
sys.modules["torch_geometric"], graphs = None, sys.modules.get("torch_geometric")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch.jit, which Ignite imports
    from ignite.engine import Engine, create_supervised_trainer
    from skorch import NeuralNetClassifier
    from skorch.callbacks import GradientNormClipping, LRScheduler
sys.modules.pop("torch_geometric")
if graphs is not None:
    sys.modules["torch_geometric"] = graphs

BOTH = pytest.mark.parametrize("make", [sam, lpf_sgd])
BATCHES = list(loops.batches(4))
X, Y = (torch.cat(column) for column in zip(*BATCHES, strict=True))


# ---- Ignite ----------------------------------------------------------------------


def ignite_update(model: Any, opt: Any) -> Any:
    """The update function of the page, for another model."""
    page = run_page("Ignite")
    page.update(model=model, opt=opt)
    return page["update"]


@BOTH
def test_ignite_trains_as_the_plain_loop(make):
    model = loops.make_model(batch_norm=True)
    opt = make(model)
    trainer = Engine(ignite_update(model, opt))
    trainer.run(BATCHES, max_epochs=2)
    plain = plain_loop(make, 2 * BATCHES, model=loops.make_model(batch_norm=True))
    assert loops.identical(loops.values(model), loops.values(plain))
    assert torch.equal(model[1].running_mean, plain[1].running_mean)


def test_the_output_of_ignite_is_the_loss_at_the_weights():
    model = loops.make_model()
    trainer = Engine(ignite_update(model, sam(model)))
    expected = F.cross_entropy(loops.make_model()(BATCHES[0][0]), BATCHES[0][1])
    assert trainer.run(BATCHES[:1]).output == expected.item()


def test_ignites_own_update_function_stops_at_the_first_step():
    model = loops.make_model()
    trainer = create_supervised_trainer(model, sam(model), F.cross_entropy)
    with pytest.raises(UsageError, match="needs the gradient of a finished"):
        trainer.run(BATCHES)


# ---- skorch ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def flat_net() -> Any:
    return run_page("skorch")["FlatNet"]


def net(kind: Any, model: Any, **more: Any) -> NeuralNetClassifier:
    settings = {
        "criterion": torch.nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": 0.9,
        "lr": 0.1,
        "max_epochs": 2,
        "batch_size": loops.ROWS,
        "train_split": None,
        "verbose": 0,
    }
    return kind(model, **{**settings, **more})


def of_the_page(model: Any) -> Any:
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return steppe.SAM(base, rho=0.05, model=model)


def test_skorch_trains_as_the_plain_loop(flat_net):
    made = net(flat_net, loops.make_model(batch_norm=True)).fit(X, Y)
    plain = plain_loop(
        of_the_page, 2 * BATCHES, model=loops.make_model(batch_norm=True)
    )
    assert loops.identical(loops.values(made.module_), loops.values(plain))
    assert torch.equal(made.module_[1].running_mean, plain[1].running_mean)
    assert made.optimizer_.steps == 8


def test_the_losses_of_skorch_are_those_of_the_first_pass(flat_net):
    made = net(flat_net, loops.make_model(), max_epochs=1, batch_size=len(X))
    made.fit(X, Y)
    expected = F.cross_entropy(loops.make_model()(X), Y)
    assert made.history[-1, "train_loss"] == expected.item()


def test_schedulers_and_clipping_of_skorch_work(flat_net):
    schedule = LRScheduler("ExponentialLR", gamma=0.5, step_every="batch")
    callbacks = [GradientNormClipping(0.05), schedule]
    made = net(flat_net, loops.make_model(), callbacks=callbacks).fit(X, Y)
    plain = plain_loop(of_the_page, 2 * BATCHES, clip=0.05, decay=0.5)
    assert_same(made.module_, plain)


def test_skorch_resumes_where_it_stopped(flat_net, tmp_path):
    straight = net(flat_net, loops.make_model(), max_epochs=2).fit(X, Y)
    half = net(flat_net, loops.make_model(), max_epochs=1).fit(X, Y)
    files = {"f_params": tmp_path / "net.pt", "f_optimizer": tmp_path / "opt.pt"}
    half.save_params(**files)
    resumed = net(flat_net, loops.make_model(), max_epochs=1).initialize()
    resumed.load_params(**files)
    resumed.partial_fit(X, Y)
    left, right = (loops.values(each.module_) for each in (resumed, straight))
    assert loops.identical(left, right)
    resumed.set_params(lr=0.5)
    assert resumed.optimizer_.bases[0].param_groups[0]["lr"] == 0.5


# ---- timm ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def update() -> Any:
    return run_page("timm")["update"]


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("make", [sam, loops.momentum])
def test_the_loop_of_timm_trains_as_the_plain_loop(make, scaled, update):
    model = loops.make_model()
    scaler = NativeScaler() if scaled else None
    train_one_epoch(
        model,
        BATCHES,
        make(model),
        clip_grad=0.05,
        loss_scaler=scaler,
        update=update if make is sam else None,
    )
    assert_same(model, plain_loop(make, BATCHES, clip=0.05))


def test_the_loss_to_log_is_that_at_the_weights(update):
    model = loops.make_model()
    losses = train_one_epoch(model, BATCHES[:1], sam(model), update=update)
    expected = F.cross_entropy(loops.make_model()(BATCHES[0][0]), BATCHES[0][1])
    assert losses == [expected.item()]


def test_micro_batches_of_timm_have_perturbations_of_their_own(update):
    model, plain = loops.make_model(), loops.make_model()
    train_one_epoch(model, BATCHES, sam(model), accum_steps=2, update=update)
    opt = sam(plain)
    for i in (0, 2):
        opt.zero_grad()
        for x, y in BATCHES[i : i + 2]:
            for _ in opt.passes(accumulate=True):
                (F.cross_entropy(plain(x), y) / 2).backward()
        opt.step()
    assert loops.identical(loops.values(model), loops.values(plain))


def test_a_saved_state_goes_on_in_timm(update):
    straight, resumed = loops.make_model(), loops.make_model()
    opt = sam(straight)
    train_one_epoch(straight, BATCHES, opt, update=update)
    saved = copy.deepcopy((straight.state_dict(), opt.state_dict()))
    other = sam(resumed)
    resumed.load_state_dict(saved[0])
    other.load_state_dict(saved[1])
    for model, each in ((straight, opt), (resumed, other)):
        train_one_epoch(model, BATCHES, each, update=update)
    assert loops.identical(loops.values(straight), loops.values(resumed))


@pytest.mark.parametrize("scaler", [None, NativeScaler()])
def test_the_script_of_timm_as_it_is_stops_at_the_first_step(scaler):
    model = loops.make_model()
    with pytest.raises(UsageError, match="needs the gradient of a finished"):
        train_one_epoch(model, BATCHES, sam(model), loss_scaler=scaler)
