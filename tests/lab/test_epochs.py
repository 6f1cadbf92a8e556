"""Epochs: the samples of each step, and trainings of other lengths than passes."""

from __future__ import annotations

import itertools

import pytest
import torch

from small_trainings import same_weights
from steppe.errors import SettingError
from steppe.seeds import stream
from steppe_lab import datasets
from steppe_lab.training.build import build_lr_schedule, build_optimizer
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.loop import train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.readiness import check_ready, check_settings
from steppe_lab.training.recipe import Recipe

SAMPLES = 70


def recipe(optimizer: str = "sgd:lr=0.05", **more: object) -> Recipe:
    settings = {
        "data": "digits",
        "model": "mlp:hidden=4",
        "train_samples": SAMPLES,
        "epochs": 4,
        "batch_size": 16,
        **read_optimizer(optimizer, "sgd:lr=0.05"),
        **more,
    }
    if "steps" in more:
        settings.pop("epochs")
    return Recipe.model_validate(settings)


@pytest.fixture(scope="module")
def split():
    return recipe().selection.apply(datasets.load("digits"))


def endless(seed: int):
    """Positions of samples as they come, one permutation after the other."""
    for number in itertools.count():
        yield from torch.randperm(SAMPLES, generator=stream(seed, number)).tolist()


def batches(epochs: Epochs) -> list[list[list[int]]]:
    """Positions by epoch and step."""
    return [[b.tolist() for b in epochs.batches(e)] for e in range(epochs.count)]


@pytest.mark.parametrize("size", [None, 1, 16, 30, 70, 100, 150])
@pytest.mark.parametrize("last", ["keep", "drop"])
def test_epochs_take_the_next_samples_of_an_endless_sequence(size, last):
    batch = 1 if size == 1 else 16
    made = recipe(epoch_size=size, last_batch=last, batch_size=batch, seed=3)
    epochs = Epochs.of(made, SAMPLES)
    positions = endless(3)
    for epoch, steps in enumerate(batches(epochs)):
        taken = list(itertools.islice(positions, size or SAMPLES))
        expected = [taken[i : i + batch] for i in range(0, len(taken), batch)]
        expected = [b for b in expected if last == "keep" or len(b) == batch]
        assert steps == expected
        assert epochs.first_step(epoch + 1) - epochs.first_step(epoch) == len(steps)
        assert epochs.smallest_batch == min(map(len, steps))
    assert epochs.first_step(epochs.count) == epochs.steps


@pytest.mark.parametrize("steps", [1, 4, 5, 6, 13])
@pytest.mark.parametrize("size", [None, 30])
def test_a_budget_of_steps_ends_the_last_epoch(steps, size):
    longer = Epochs.of(recipe(epoch_size=size, epochs=20), SAMPLES)
    epochs = Epochs.of(recipe(epoch_size=size, steps=steps), SAMPLES)
    assert epochs.steps == steps
    assert epochs.first_step(epochs.count - 1) < steps == epochs.first_step(99)
    flat = itertools.chain.from_iterable
    assert [*flat(batches(epochs))] == [*flat(batches(longer))][:steps]


def test_a_training_of_some_steps_is_the_start_of_a_longer_one(split):
    whole = train(recipe(epochs=2, lr_schedule="constant"), split)
    begun = train(recipe(steps=10, lr_schedule="constant"), split)
    assert same_weights(whole.model, begun.model)  # 10 steps are two passes
    short = train(recipe(steps=7, lr_schedule="constant"), split)
    assert not same_weights(short.model, begun.model)
    assert [row["epoch"] for row in short.history] == [1, 2]
    assert short.history[0] == begun.history[0]
    assert short.gradients == 1.0


def test_schedules_end_with_the_budget_and_count_in_epochs_of_any_size():
    made = recipe("sam:rho=linear(0.2,0.1)", steps=12, epoch_size=32)
    rate = build_lr_schedule(made, SAMPLES)
    assert [rate(0), rate(6), rate(12)] == pytest.approx([0.05, 0.025, 0.0])
    optimizer = build_optimizer(made, torch.nn.Linear(1, 1), SAMPLES)
    assert optimizer.param_groups[0]["rho"] == 0.2
    text = "multi_step(milestones=(2,9),factor=0.5)"
    rate = build_lr_schedule(recipe(steps=12, epoch_size=32, lr_schedule=text), SAMPLES)
    assert [rate(t) for t in (3, 4, 11)] == [0.05, 0.025, 0.025]
    assert rate(18) == 0.0125  # the ninth epoch of two steps would begin there


def test_scores_come_after_the_last_epoch_of_a_budget(split):
    history = train(recipe(steps=12, epoch_size=32, evaluate_every=4), split).history
    assert [row["epoch"] for row in history if "test_loss" in row] == [4, 6]


@pytest.mark.parametrize(
    "more",
    [
        {"epoch_size": 20, "batch_size": 8, "epochs": 6},
        pytest.param({"steps": 11, "epoch_size": 40}, marks=pytest.mark.slow),
        pytest.param({"last_batch": "drop"}, marks=pytest.mark.slow),
        pytest.param(
            {"steps": 13, "last_batch": "drop", "optimizer": "lpf_sgd:micro_batches=2"},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_stop_changes_no_bit_with_epochs_of_any_size(split, more):
    made = recipe(**({"optimizer": "sam:rho=0.1"} | more))
    kept: list[bytes] = []
    straight = train(made, split, keep=kept.append, keep_every=0)
    assert len(kept) == len(straight.history) - 1
    for state in kept:
        resumed = train(made, split, resume=state)
        assert same_weights(resumed.model, straight.model)
        assert resumed.history == straight.history


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"last_batch": "drop", "batch_size": 71}, "at most the 70 samples of an epoc"),
        ({"last_batch": "drop", "epoch_size": 15}, "the 15 samples of an epoch where "),
        ({"steps": 10**8, "epoch_size": 16}, "must come to at most 1,000,000 epochs"),
    ],
)
def test_epochs_that_cannot_be_are_refused_before_any_work(more, said):
    with pytest.raises(SettingError) as caught:
        check_settings(recipe(**more), SAMPLES)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_training_is_as_long_as_one_setting_says():
    settings = recipe().model_dump() | {"epochs": 7, "steps": 3}
    with pytest.raises(ValueError, match="got 7 epochs and 3 steps; leave one of them"):
        Recipe.model_validate(settings)


@pytest.mark.parametrize(
    "more", [{"batch_size": 23}, {"epoch_size": 33, "batch_size": 32}]
)
def test_batch_norm_refuses_a_batch_of_one_unless_it_is_dropped(more):
    norm = {"model": "small_cnn:width=2,batch_norm=true", **more}
    with pytest.raises(SettingError, match="batch norm needs 2 samples"):
        check_ready(recipe(**norm))
    check_ready(recipe(last_batch="drop", **norm))


LENGTHS = torch.randint(1, 30, (SAMPLES,), generator=stream(5))


@pytest.mark.parametrize("size", [None, 30, 150])
@pytest.mark.parametrize("last", ["keep", "drop"])
def test_batches_by_length_hold_the_samples_of_random_batches(size, last):
    made = recipe(epoch_size=size, last_batch=last)
    plain, sorted_ = Epochs.of(made, SAMPLES), Epochs.of(made, SAMPLES, LENGTHS)
    for random, own in zip(batches(plain), batches(sorted_), strict=True):
        assert list(map(len, own)) == list(map(len, random))
        flat = itertools.chain.from_iterable
        assert sorted(flat(own)) == sorted(flat(random))
        if len(random[-1]) < 16:
            assert own[-1] == random[-1]


def test_batches_by_length_have_neighbouring_lengths_in_random_order():
    epochs = Epochs.of(recipe(last_batch="drop"), SAMPLES, LENGTHS)
    own = [LENGTHS[rows] for rows in epochs.batches(0)]
    assert own[0].tolist() != sorted(LENGTHS.tolist())[:16]
    by_start = sorted(own, key=lambda lengths: int(lengths.min()))
    for shorter, longer in itertools.pairwise(by_start):
        assert shorter.max() <= longer.min()
    orders = {
        tuple(int(b.min()) for b in map(LENGTHS.__getitem__, epochs.batches(e)))
        for e in range(4)
    }
    assert len(orders) > 1
    again = Epochs.of(recipe(last_batch="drop"), SAMPLES, LENGTHS)
    assert batches(again) == batches(epochs)


def test_long_epochs_are_sorted_pool_by_pool():
    lengths = torch.arange(500).flip(0)
    epochs = Epochs.of(recipe(batch_size=2), 500, lengths)
    spread = [
        int(lengths[rows].max() - lengths[rows].min()) for rows in epochs.batches(0)
    ]
    assert sum(spread) / len(spread) < 6  # random pairs are 167 apart
    assert max(spread) > 1  # one pool would have pairs of neighbours


def test_batches_by_length_need_sequences_and_are_no_part_of_older_ids(split):
    with pytest.raises(
        SettingError, match="batch_by length needs samples that are seq"
    ):
        check_ready(recipe(batch_by="length"))
    assert "batch_by" not in recipe().model_dump(mode="json")
    assert recipe(batch_by="length").model_dump(mode="json")["batch_by"] == "length"
