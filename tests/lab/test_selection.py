"""Which samples, which labels, judged on which: exact counts, and one seed for all."""

import dataclasses

import pytest
import torch

from steppe.errors import SettingError
from steppe_lab.datasets import Dataset, Selection, TensorSamples, load

POOL, TEST, CLASSES = 6000, 50, 4


@pytest.fixture(scope="module")
def dataset():
    """Each input is its own position, so that samples can be told apart."""
    return Dataset(
        name="numbers",
        train=TensorSamples(
            torch.arange(float(POOL)).view(-1, 1, 1, 1), torch.arange(POOL) % CLASSES
        ),
        test=TensorSamples(-torch.ones(TEST, 1, 1, 1), torch.arange(TEST) % CLASSES),
        classes=tuple("abcd"),
        notes=("made up",),
    )


def minus(part):
    return TensorSamples(-part.inputs, part.targets)


def numbers(part):
    return part.inputs.flatten().long()


def test_the_whole_pool_is_taken_when_nothing_is_said(dataset):
    split = Selection().apply(dataset)
    assert torch.equal(split.train.inputs, dataset.train.inputs)
    assert torch.equal(split.train.targets, dataset.train.targets)
    assert torch.equal(split.test.inputs, dataset.test.inputs)
    assert split.notes == ("made up",)
    assert split.classes == dataset.classes
    assert split.in_shape == (1, 1, 1)


def test_a_registered_set_takes_as_many_as_it_recommends():
    split = Selection().apply(load("digits"))
    assert len(split.train.targets) == 1000
    assert len(split.test.targets) == 500


def test_samples_are_drawn_without_repetition_and_keep_their_labels(dataset):
    split = Selection(train_samples=100).apply(dataset)
    drawn = numbers(split.train)
    assert len(drawn.unique()) == 100
    assert torch.equal(drawn, split.positions)
    assert torch.equal(split.train.targets, drawn % CLASSES)


def test_one_seed_draws_the_same_samples_and_another_seed_others(dataset):
    draws = [
        numbers(Selection(train_samples=100, seed=seed).apply(dataset).train)
        for seed in (3, 3, 4)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_drawing_leaves_the_global_generator_alone(dataset):
    before = torch.get_rng_state()
    Selection(train_samples=100, label_noise=0.5).apply(dataset)
    assert torch.equal(torch.get_rng_state(), before)


def test_smaller_training_sets_lie_within_larger_ones(dataset):
    few = numbers(Selection(train_samples=100).apply(dataset).train)
    many = numbers(Selection(train_samples=200).apply(dataset).train)
    assert torch.equal(few, many[:100])


def test_validation_samples_are_unused_ones_of_the_pool(dataset):
    split = Selection(train_samples=5800, held_out="validation").apply(dataset)
    used, judged = set(numbers(split.train).tolist()), numbers(split.test)
    assert len(judged) == 200
    assert used.isdisjoint(judged.tolist())
    assert torch.equal(split.test.targets, judged % CLASSES)
    assert split.notes[-1] == (
        "judged on 200 unused training samples, not on the test set"
    )


def test_validation_takes_at_most_5000_and_the_same_for_smaller_sets(dataset):
    parts = [
        numbers(Selection(train_samples=n, held_out="validation").apply(dataset).test)
        for n in (10, 900)
    ]
    assert len(parts[0]) == 5000
    assert torch.equal(parts[0], parts[1])


def test_validation_without_unused_samples_is_refused(dataset):
    with pytest.raises(
        SettingError, match="--held-out validation needs unused training samples"
    ):
        Selection(held_out="validation").apply(dataset)


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.333, 0.5, 1.0])
@pytest.mark.parametrize("samples", [7, 1000])
def test_label_noise_exchanges_exactly_the_rounded_share(noise, samples, dataset):
    split = Selection(train_samples=samples, label_noise=noise).apply(dataset)
    changed = split.train.targets != split.true_targets
    assert int(changed.sum()) == round(noise * samples)
    assert torch.equal(split.true_targets, numbers(split.train) % CLASSES)
    assert split.train.targets.min() >= 0
    assert split.train.targets.max() < CLASSES


def test_label_noise_leaves_samples_test_labels_and_the_data_set_alone(dataset):
    clean = Selection(train_samples=500).apply(dataset)
    noisy = Selection(train_samples=500, label_noise=0.4).apply(dataset)
    assert torch.equal(clean.train.inputs, noisy.train.inputs)
    assert torch.equal(clean.test.targets, noisy.test.targets)
    assert torch.equal(dataset.train.targets, torch.arange(POOL) % CLASSES)


def test_labels_flipped_at_low_noise_stay_flipped_at_high_noise(dataset):
    low = Selection(label_noise=0.1).apply(dataset)
    high = Selection(label_noise=0.6).apply(dataset)
    flipped = low.train.targets != low.true_targets
    assert torch.equal(low.train.targets[flipped], high.train.targets[flipped])


def test_new_labels_are_uniform_among_the_other_classes(dataset):
    split = Selection(label_noise=1.0).apply(dataset)
    shift = (split.train.targets - split.true_targets) % CLASSES
    counts = shift.bincount(minlength=CLASSES)
    assert counts[0] == 0
    # Standard deviation of each count: sqrt(6000 * 1/3 * 2/3) = 37; four of them.
    assert (counts[1:] - POOL / 3).abs().max() < 150


def test_more_samples_than_the_pool_names_both_numbers(dataset):
    with pytest.raises(SettingError, match=r"6,000 samples .* of numbers, got 6,001\."):
        Selection(train_samples=6001).apply(dataset)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"train_samples": 0}, r"train_samples must be >= 1, got 0\."),
        ({"label_noise": 1.5}, r"label_noise must be between 0 and 1, got 1\.5\."),
        ({"label_noise": -0.1}, r"label_noise must be between 0 and 1, got -0\.1\."),
        (
            {"label_noise": float("nan")},
            r"label_noise must be between 0 and 1, got n",
        ),
        ({"held_out": "train"}, r"held_out must be 'test' or 'validation', got 'tra"),
    ],
)
def test_settings_out_of_range_are_sentences(settings, sentence):
    with pytest.raises(SettingError, match=sentence):
        Selection(**settings)


def test_some_samples_are_drawn_by_the_seed_alone(dataset):
    split = Selection().apply(dataset)
    first, again = (split.some("train", 100, seed=3) for _ in range(2))
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, numbers(first) % CLASSES)
    assert len(set(numbers(first).tolist())) == 100
    assert not torch.equal(first.inputs, split.train.inputs[:100])
    assert not torch.equal(first.inputs, split.some("train", 100, seed=4).inputs)
    assert len(split.some("test", 20, seed=3).targets) == 20


def test_all_samples_are_taken_when_fewer_are_there(dataset):
    split = Selection(train_samples=50).apply(dataset)
    assert split.some("train", 100, seed=3) is split.train


def test_equal_splits_have_one_fingerprint_and_every_change_another(dataset):
    split = Selection(train_samples=50).apply(dataset)
    inputs, targets = split.train.inputs, split.train.targets
    others = [
        Selection(train_samples=50, label_noise=0.1).apply(dataset),
        Selection(train_samples=50, seed=1).apply(dataset),
        Selection(train_samples=51).apply(dataset),
        dataclasses.replace(split, train=TensorSamples(inputs.double(), targets)),
        dataclasses.replace(split, train=TensorSamples(inputs.flatten(), targets)),
        dataclasses.replace(split, test=minus(split.test)),
    ]
    same = Selection(train_samples=50).apply(dataset)
    assert same.fingerprint == split.fingerprint
    found = {other.fingerprint for other in others}
    assert len(found | {split.fingerprint}) == 7
