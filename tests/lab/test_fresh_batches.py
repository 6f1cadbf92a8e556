"""Methods that take a batch of its own for every pass of a step."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from small_trainings import same_weights
from steppe.errors import SettingError
from steppe.optimizers import OPTIMIZERS
from steppe.seeds import stream
from steppe_lab import datasets
from steppe_lab.training.build import build_lr_schedule, build_model, build_optimizer
from steppe_lab.training.epochs import Epochs, batches_per_step
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_settings
from steppe_lab.training.recipe import Recipe

SAMPLES = 70
FRESH = "entropy_sgd:inner_steps=3,inner_lr=0.05,fresh_batches=true"


def recipe(optimizer: str = FRESH, **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=4",
        "train_samples": SAMPLES,
        "epochs": 5,
        "batch_size": 10,
        **read_optimizer(optimizer, "sgd:lr=0.05"),
        **more,
    }
    if "steps" in more:
        settings.pop("epochs")
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def split():
    return recipe().selection.apply(datasets.load("digits"))


def test_steps_take_the_batches_as_they_come_over_the_ends_of_epochs():
    epochs = Epochs.of(recipe(), SAMPLES)  # 7 batches in an epoch, 3 in a step
    steps = [rows for e in range(5) for rows in epochs.batches(e)]
    assert [epochs.first_step(e) for e in range(6)] == [0, 2, 4, 7, 9, 11]
    orders = [torch.randperm(SAMPLES, generator=stream(0, e)) for e in range(5)]
    assert [len(rows) for rows in steps] == [30] * 11
    assert torch.equal(torch.cat(steps), torch.cat(orders)[:330])


def test_epochs_are_passes_over_the_data_as_in_the_published_comparison():
    """40 epochs of 391 steps on 5 batches each, with drops after 20 and 24 of them."""
    text = "multi_step(milestones=(100,120))"
    made = recipe(
        "entropy_sgd:fresh_batches=true", epochs=200, batch_size=128, lr_schedule=text
    )
    epochs = Epochs.of(made, 50_000)
    assert epochs.steps == 40 * 391
    rate = build_lr_schedule(made, 50_000)
    changes = [t for t in range(1, epochs.steps) if rate(t) != rate(t - 1)]
    assert changes == [20 * 391, 24 * 391]


@pytest.mark.parametrize("more", [{}, {"epoch_size": 40}, {"steps": 8}])
def test_a_training_is_the_loop_of_the_library_that_fetches_in_every_pass(split, more):
    made = recipe(**more)
    trained = train(made, split)
    model = build_model(made, split.in_shape, split.outputs)
    optimizer = build_optimizer(made, model, SAMPLES)
    rate, epochs = build_lr_schedule(made, SAMPLES), Epochs.of(made, SAMPLES)
    orders = (torch.randperm(SAMPLES, generator=stream(0, e)) for e in range(9))
    batches = torch.split(torch.cat(list(orders)), 10)
    fetched = iter(batches)
    for step in range(epochs.steps):
        for group in optimizer.param_groups:
            group["lr"] = rate(step)
        for _ in optimizer.passes():
            inputs, targets = split.train.batch(next(fetched))
            F.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
    assert same_weights(trained.model, model)
    assert trained.gradients == pytest.approx(3.0, rel=1e-12)


def test_shared_batches_stay_what_they_were(split):
    shared = recipe(FRESH.replace("true", "false"))
    assert "fresh_batches" not in shared.optimizer.settings
    trained = train(shared, split)
    assert trained.gradients == 1.0
    assert not same_weights(trained.model, train(recipe(), split).model)


@pytest.mark.parametrize(
    "more",
    [
        {"epoch_size": 40},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"steps": 8}, marks=pytest.mark.slow),
    ],
)
def test_a_stop_changes_no_bit(split, more):
    kept: list[bytes] = []
    straight = train(recipe(**more), split, keep=kept.append, keep_every=0)
    assert len(kept) == len(straight.history) - 1
    for state in kept:
        resumed = train(recipe(**more), split, resume=state)
        assert resumed.history == straight.history
        assert same_weights(resumed.model, straight.model)


def test_the_smallest_share_of_a_step_counts_for_batch_norm():
    fresh = Epochs.of(recipe(), SAMPLES + 1)  # the last of 8 batches has one sample
    assert fresh.smallest_batch == 7
    assert Epochs.of(recipe("sgd"), SAMPLES + 1).smallest_batch == 1


def test_an_epoch_has_the_batches_of_a_step_at_least():
    with pytest.raises(SettingError) as caught:
        check_settings(recipe(batch_size=30, last_batch="drop"), SAMPLES)
    said = "an epoch must have the 3 fresh batches of a step, got 2; lower batch_size"
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "several"),
    [
        ("sgd", 1),
        ("sam", 1),
        ("entropy_sgd", 1),
        ("entropy_sgd:fresh_batches=true", 5),
        ("entropy_sgd:fresh_batches=true,inner_steps=0", 1),
    ],
)
def test_a_method_says_how_many_batches_a_step_takes(text, several):
    made = recipe(text)
    assert batches_per_step(made.optimizer) == several
    optimizer = build_optimizer(made, torch.nn.Linear(1, 1), SAMPLES)
    assert getattr(optimizer, "batches_per_step", 1) == several


def test_facts_name_settings_that_exist():
    named = [entry for entry in OPTIMIZERS if entry.spec.separate_passes]
    assert [entry.name for entry in named] == ["entropy_sgd"]
    for entry in named:
        assert {entry.spec.separate_passes, "fresh_batches"} <= set(entry.settings())
    with_setting = [e.name for e in OPTIMIZERS if "fresh_batches" in e.settings()]
    assert with_setting == [entry.name for entry in named]
