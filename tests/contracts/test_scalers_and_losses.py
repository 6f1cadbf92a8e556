"""Scalers that an optimizer has to know, and losses that are no single number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import loops
import steppe
from loops import make_model, values
from methods import EVERY, make, one_batch
from steppe.errors import UsageError


def _scaler() -> torch.amp.GradScaler:
    return torch.amp.GradScaler("cpu", init_scale=256.0)


def _scaled_passes(opt: Any, scaler: torch.amp.GradScaler, model: Any) -> None:
    x, y = one_batch()
    for _ in opt.passes():
        xs, ys = opt.take(x, y)
        scaler.scale(F.cross_entropy(model(xs), ys)).backward()


@EVERY
def test_a_scaler_is_refused_where_it_has_to_be_known_and_is_not(entry):
    model, scaler = make_model(), _scaler()
    opt = make(entry, loops.base_for(entry, model))
    before = values(model)
    _scaled_passes(opt, scaler, model)
    if entry.make.scale_free:
        scaler.step(opt)
        assert opt.steps == 1
        return
    with pytest.raises(UsageError, match="scaler=scaler"):
        scaler.step(opt)
    assert loops.identical(values(model), before)


def test_a_gate_that_compares_gradients_has_to_know_the_scaler():
    model, scaler = make_model(), _scaler()
    gate = steppe.gates.AdaptiveGate(steps=20)
    opt = steppe.SAM(loops.momentum(model), gate=gate)
    _scaled_passes(opt, scaler, model)
    with pytest.raises(UsageError, match="the gate AdaptiveGate compares"):
        scaler.step(opt)


@pytest.mark.parametrize("enabled", [True, False])
def test_a_closure_is_refused_where_a_scaler_is_on(enabled):
    model = make_model()
    scaler = torch.amp.GradScaler("cpu", enabled=enabled)
    opt = steppe.SAM(loops.momentum(model), scaler=scaler)
    before, (x, y) = values(model), one_batch()
    if not enabled:
        opt.step(lambda: scaler.scale(F.cross_entropy(model(x), y)))
        assert opt.steps == 1
        return
    with pytest.raises(UsageError, match="loop over passes"):
        opt.step(lambda: scaler.scale(F.cross_entropy(model(x), y)))
    assert loops.identical(values(model), before)


LOSSES = {
    "tuple": (lambda loss: (loss.mean(), loss), "got tuple; return that number alone"),
    "dict": (lambda loss: {"loss": loss.mean()}, "got dict; return that number alone"),
    "text": (lambda loss: "0.3", "got str; return that number alone"),
    "nothing": (lambda loss: None, "got None; return it, or under Lightning"),
    "vector": (lambda loss: loss, r"got a tensor of shape \(8,\); return its mean"),
}


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_is_no_single_number_is_refused(name):
    change, message = LOSSES[name]
    model = make_model()
    opt = steppe.SAM(loops.momentum(model))
    before, (x, y) = values(model), [part[:8] for part in one_batch()]

    def losses() -> Any:
        return change(F.cross_entropy(model(x), y, reduction="none"))

    with pytest.raises(
        UsageError, match="the closure must return the loss, .*" + message
    ):
        opt.step(losses)
    next(loop := opt.passes())
    with pytest.raises(UsageError, match="report.. takes the loss, .*" + message):
        opt.report(losses())
    loop.close()
    assert loops.identical(values(model), before)


@pytest.mark.parametrize("kind", [float, np.float32, torch.Tensor.detach])
def test_a_closure_may_return_any_kind_of_number(kind):
    model = make_model()
    opt = steppe.SAM(loops.momentum(model))
    x, y = one_batch()

    def closure() -> Any:
        opt.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        return kind(loss.detach())

    expected = F.cross_entropy(model(x), y).item()
    assert float(opt.step(closure)) == pytest.approx(expected)
