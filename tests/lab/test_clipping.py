"""Clipping of the gradient that a training steps with."""

from __future__ import annotations

import itertools

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.nn import functional as F

from steppe import SAM
from steppe_lab import datasets
from steppe_lab.training.build import build_lr_schedule, build_model, build_optimizer
from steppe_lab.training.clipping import Clipping
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.precision import Precision
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.step import step_with

BASE = "sgd:lr=0.1,momentum=0.9"


def recipe(optimizer: str = "sgd", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=8",
        "train_samples": 96,
        "epochs": 2,
        "batch_size": 32,
        **read_optimizer(optimizer, BASE),
        **more,
    }
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def split():
    return recipe().selection.apply(datasets.load("digits"))


def by_hand(made, split, clip) -> tuple[nn.Module, list[float]]:
    """The training as a loop of the library, with torch's clipping in it."""
    model = build_model(made, split.in_shape, 10)
    optimizer = build_optimizer(made, model, len(split.train))
    epochs, rate = Epochs.of(made, len(split.train)), build_lr_schedule(made, 96)
    rows = itertools.chain.from_iterable(map(epochs.batches, range(made.epochs)))
    norms = []
    for step, places in enumerate(rows):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        inputs, targets = split.train.batch(places)
        passes = optimizer.passes() if made.optimizer else (0,)
        for _ in passes:
            optimizer.zero_grad()
            x, y = (
                optimizer.take(inputs, targets) if made.optimizer else (inputs, targets)
            )
            F.cross_entropy(model(x), y).backward()
        norms.append(float(clip(model.parameters()) or 0))
        optimizer.step()
    return model, norms


@pytest.mark.parametrize(
    "optimizer", ["sgd", "adam", "sam:rho=0.1", "lpf_sgd:micro_batches=2"]
)
@pytest.mark.parametrize(
    ("settings", "clip"),
    [
        ({"clip_norm": 0.3}, lambda params: nn.utils.clip_grad_norm_(params, 0.3)),
        ({"clip_value": 0.01}, lambda params: nn.utils.clip_grad_value_(params, 0.01)),
    ],
    ids=["norm", "value"],
)
def test_it_is_torchs_on_the_final_gradient_bit_for_bit(
    split, optimizer, settings, clip
):
    made = recipe(optimizer, **settings)
    ours = train(made, split)
    model, norms = by_hand(made, split, clip)
    plain = train(recipe(optimizer), split).model
    for a, b in zip(ours.model.parameters(), model.parameters(), strict=True):
        assert torch.equal(a, b)
    if optimizer != "adam" or "clip_value" in settings:  # Adam undoes a common factor
        pairs = zip(ours.model.parameters(), plain.parameters(), strict=True)
        assert not all(torch.equal(a, b) for a, b in pairs)
    first, second = ours.history
    if "clip_norm" in settings:
        assert first["grad_norm"] == pytest.approx(sum(norms[:3]) / 3)
        assert second["grad_norm_max"] == pytest.approx(max(norms[3:]))
        assert first["grad_norm"] > 0.3


@pytest.mark.parametrize("method", [False, True])
def test_a_gradient_in_units_of_the_loss_scale_is_unscaled_before_it_is_clipped(method):
    weight = nn.Parameter(torch.zeros(2))
    base = torch.optim.SGD([weight], lr=1.0)
    precision, clip = Precision("fp16", "cpu"), Clipping(norm=2.0)
    optimizer = SAM(base, rho=0.1, scaler=precision.scaler) if method else base

    def closure():
        if not method:
            optimizer.zero_grad()
        loss = (weight * torch.tensor([3.0, 4.0])).sum()
        precision.backward(loss)
        return loss.detach()

    step_with(optimizer, [closure], precision, clip)
    torch.testing.assert_close(weight.detach(), torch.tensor([-1.2, -1.6]))
    assert clip.row() == {"grad_norm": 5.0, "grad_norm_max": 5.0}
    assert clip.row() == {}


def test_an_overflow_is_no_norm_of_the_history():
    weight = nn.Parameter(torch.zeros(1))
    optimizer, clip = torch.optim.SGD([weight], lr=1.0), Clipping(norm=1.0)
    for gradient in (torch.inf, 3.0):
        weight.grad = torch.tensor([gradient])
        clip(optimizer)
    assert clip.row() == {"grad_norm": 3.0, "grad_norm_max": 3.0}


def test_without_it_nothing_is_added_to_the_history(split):
    assert "grad_norm" not in train(recipe(epochs=1), split).history[0]


def test_stopping_and_resuming_changes_no_bit(split):
    made = recipe("sam", clip_norm=0.3)
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    assert train(made, split, resume=kept[0]).history == straight.history


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"clip_norm": 0.0}, "greater than 0"),
        ({"clip_value": -1.0}, "greater than 0"),
        (
            {"clip_norm": 1.0, "clip_value": 1.0},
            "--clip-norm and --clip-value exclude each other, got both; leave one",
        ),
    ],
)
def test_misuse_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        recipe(**settings)
