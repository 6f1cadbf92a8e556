"""Training in lower precision: autocast, the scale of the loss, skipped steps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import small_trainings
import steppe
from steppe.errors import SettingError
from steppe_lab.datasets import Split
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.training.build import build_model
from steppe_lab.training.loop import train
from steppe_lab.training.precision import Precision, check_precision
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import TrainingState
from steppe_lab.training.step import step_with

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


recipe, same = small_trainings.recipe, small_trainings.same


@pytest.fixture(scope="module")
def split():
    return small_trainings.split()


def by_hand(made: Recipe, split: Split, amp: str) -> nn.Module:
    """The loop of docs/loops.md in float16, or that of plain SGD in bfloat16."""
    model = build_model(made, split.in_shape, split.outputs)
    state = TrainingState.fresh(made, split, None)
    base = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu", enabled=amp == "fp16")
    model.train()
    for epoch in range(made.epochs):
        first = state.epochs.first_step(epoch)
        for step, rows in enumerate(state.epochs.batches(epoch), first):
            base.param_groups[0]["lr"] = state.schedule(step)
            x, y = split.train.batch(rows)
            base.zero_grad()
            with torch.autocast("cpu", dtype=DTYPES[amp]):
                loss = F.cross_entropy(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(base)
            scaler.update()
    return model


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_it_is_the_loop_of_torch(amp, split):
    made = recipe("sgd", amp=amp)
    trained = train(made, split)
    expected = by_hand(made, split, amp).state_dict()
    for name, value in trained.model.state_dict().items():
        assert value.dtype == expected[name].dtype  # float32, but for counters
        assert torch.equal(value, expected[name]), name
    assert not same(trained, train(recipe("sgd"), split))


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("optimizer", "amp"),
    [
        ("sam+ema", "bf16"),
        ("gsam", "fp16"),
        pytest.param("sam+ema", "fp16", marks=SLOW),
        pytest.param("gsam", "bf16", marks=SLOW),
        pytest.param("lpf_sgd:micro_batches=2", "bf16", marks=SLOW),
        ("lpf_sgd:micro_batches=2", "fp16"),
    ],
)
def test_resuming_equals_never_stopping(amp, optimizer, split):
    kept: list[bytes] = []
    made = recipe(optimizer, amp=amp)
    whole = train(made, split, keep=kept.append, keep_every=0)
    resumed = train(made, split, resume=kept[0])
    assert same(resumed, whole)
    assert resumed.history == whole.history
    full = train(recipe(optimizer), split)
    assert resumed.history[-1]["running_loss"] == pytest.approx(
        full.history[-1]["running_loss"], rel=0.05
    )


def test_a_state_goes_on_with_its_scale(split):
    made = recipe(amp="fp16")
    state = TrainingState.fresh(made, split, None)
    state.precision.load_state_dict(
        {**state.precision.state_dict(), "scale": 8.0, "_growth_tracker": 3}
    )
    fresh = TrainingState.fresh(made, split, None)
    assert fresh.load(state.to_bytes())
    assert fresh.precision.state_dict() == state.precision.state_dict()


def overflowing(optimizer: str, split: Split, scale: float) -> list[dict[str, float]]:
    made = recipe(optimizer, amp="fp16")
    state = TrainingState.fresh(made, split, None)
    state.precision.load_state_dict({**state.precision.state_dict(), "scale": scale})
    return train(made, split, resume=state.to_bytes()).history


@pytest.mark.parametrize("optimizer", ["sgd", "sam", "gsam"])
def test_steps_that_overflow_are_skipped_and_counted(optimizer, split):
    # Every overflow halves the scale: 2^30 needs some halvings, 2^10 none.
    history = overflowing(optimizer, split, 2.0**30)
    assert 1 <= history[0]["skipped_steps"] <= 6
    assert all(math.isfinite(row["running_loss"]) for row in history)
    assert [row["skipped_steps"] for row in overflowing(optimizer, split, 2.0**10)] == [
        0,
        0,
    ]


def test_histories_without_a_scale_do_not_mention_skipped_steps(split):
    for amp in ("off", "bf16"):
        assert "skipped_steps" not in train(recipe(amp=amp), split).history[0]


class Watched(torch.optim.SGD):
    """Notes the gradient that it steps with."""

    seen: list[float]

    def step(self, closure=None):
        loss = None if closure is None else closure()
        self.seen = [p.grad.item() for p in self.param_groups[0]["params"]]
        super().step()
        return loss


@pytest.mark.parametrize("amp", ["off", "fp16"])
@pytest.mark.parametrize("method", [None, steppe.SAM])
def test_a_gradient_is_unscaled_before_anything_else_sees_it(amp, method):
    weight = nn.Parameter(torch.zeros(1))
    precision = Precision(amp, "cpu")
    base = Watched([weight], lr=1.0)
    optimizer = base if method is None else method(base)

    def closure():
        optimizer.zero_grad()
        loss = 4 * weight.sum()
        precision.backward(loss)
        return loss.detach()

    assert float(step_with(optimizer, [closure], precision)) == 0.0
    assert base.seen == [4.0]
    assert weight.item() == -4.0


def test_scores_are_those_of_float32(split):
    trained = train(recipe("sgd", amp="bf16"), split)
    x, y = split.test.batch(slice(None))
    loss = F.cross_entropy(trained.model.eval()(x), y).item()
    assert trained.history[-1]["test_loss"] == pytest.approx(loss, rel=1e-6)


def test_a_precision_that_the_device_lacks_is_refused(monkeypatch):
    def none(*_: object, **__: object):
        raise RuntimeError("no such type here")

    check_precision("fp16", "cpu")
    monkeypatch.setattr(torch, "autocast", none)
    with pytest.raises(SettingError, match="must be one that cpu can compute in"):
        check_precision("fp16", "cpu")


def test_records_of_full_precision_do_not_mention_it():
    assert '"amp"' not in CompareSettings().model_dump_json()
    assert '"amp"' not in recipe().model_dump_json()
    assert CompareSettings().name != CompareSettings(amp="bf16").name
