"""Noise on training images: its distribution, one draw for all levels, refusals."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest

from steppe.errors import SettingError
from steppe_lab.datasets import (
    Dataset,
    Selection,
    Standardisation,
    TensorSamples,
    TokenSamples,
    load,
)
from steppe_lab.training.augmenting import AugmentedBatches, read_augmentations
from steppe_lab.training.build import build_augmented
from steppe_lab.training.recipe import Recipe

DRAWN = [2.028225, 2.284791, 1.667108]  # for the first sample


@pytest.fixture(scope="module")
def dataset():
    """Grey pictures in three channels, uint8 as most files hold them."""
    shape = (60, 3, 8, 8)
    pixels = torch.randint(256, shape, generator=torch.Generator().manual_seed(0))
    standardisation = Standardisation(
        mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), scale=255
    )
    samples = TensorSamples(
        pixels.to(torch.uint8), torch.arange(60) % 2, standardisation
    )
    return Dataset(
        name="grey",
        train=samples.chosen(torch.arange(50)),
        test=samples.chosen(torch.arange(50, 60)),
        classes=("no", "yes"),
    )


def noise(dataset, std, **more):
    """The noise in units of pixels from 0 to 1, in float64."""
    split = Selection(data_noise=std, **more).apply(dataset)
    clean = Selection(**more).apply(dataset)
    stds = torch.tensor((0.2, 0.25, 0.3), dtype=torch.float64).view(1, 3, 1, 1)
    return (split.train.inputs.double() - clean.train.inputs.double()) * stds


@pytest.mark.parametrize("std", [0.2, 1.0, 3.8])
def test_noise_is_gaussian_of_the_standard_deviation_before_standardising(std, dataset):
    values = noise(dataset, std).flatten() / std
    assert len(values) == 9600
    assert kstest(values.numpy(), "norm").pvalue > 0.001
    # Pixels are not cut off at 0 and 1: their mean stays.
    assert abs(float(values.mean())) < 4 / len(values) ** 0.5


def test_every_level_is_the_same_draw_times_the_standard_deviation(dataset):
    low, high = noise(dataset, 0.2), noise(dataset, 3.8)
    torch.testing.assert_close(high / 3.8, low / 0.2, atol=2e-6, rtol=0)


def test_a_sample_has_its_noise_in_every_subset(dataset):
    whole = noise(dataset, 1.0)
    for more in ({"train_samples": 7}, {"subset": "balanced", "train_fraction": 0.5}):
        places = Selection(**more).apply(dataset).positions
        assert torch.equal(noise(dataset, 1.0, **more), whole[places])


def test_noise_follows_from_the_seed_alone_and_samples_differ(dataset):
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = noise(dataset, 1.0, subset="first")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(noise(dataset, 1.0, subset="first"), first)
    assert not torch.equal(noise(dataset, 1.0, subset="first", seed=1), first)
    flat = first.flatten(1)
    assert float(torch.corrcoef(flat).fill_diagonal_(0).abs().max()) < 0.5


def test_a_draw_is_the_same_for_good(dataset):
    """Stored networks were trained on these."""
    values = noise(dataset, 1.0)[0].flatten()[:3]
    torch.testing.assert_close(
        values, torch.tensor(DRAWN, dtype=torch.float64), atol=1e-6, rtol=0
    )


def test_samples_to_judge_on_and_the_data_set_stay_clean(dataset):
    pixels = dataset.train.stored.clone()
    for more in ({}, {"held_out": "validation", "train_samples": 30}):
        noisy = Selection(data_noise=2.0, **more).apply(dataset)
        clean = Selection(**more).apply(dataset)
        assert torch.equal(noisy.test.inputs, clean.test.inputs)
        assert noisy.train.stored.dtype == torch.float32
    assert torch.equal(dataset.train.stored, pixels)
    assert Selection(data_noise=0.0).apply(dataset).train.stored.dtype == torch.uint8


def test_noise_makes_other_data_and_equal_noise_the_same(dataset):
    prints = [
        Selection(data_noise=std, seed=seed).apply(dataset).fingerprint
        for std, seed in ((0.0, 0), (0.5, 0), (0.5, 0), (0.6, 0), (0.5, 1))
    ]
    assert prints[1] == prints[2]
    assert len(set(prints)) == 4


def test_noisy_images_are_augmented_where_grey_levels_are_not_needed(dataset):
    train = Selection(data_noise=0.5).apply(dataset).train
    rows = torch.arange(50)

    def fetch(text):
        changes = read_augmentations(text)
        return AugmentedBatches(changes, train, seed=0, device="cpu").fetch(rows, 0)[0]

    mirrored = fetch("basic:padding=0")
    clean, _ = train.batch(rows)
    same = (mirrored == clean).flatten(1).all(1)
    turned = (mirrored == clean.flip(3)).flatten(1).all(1)
    assert bool((same | turned).all())
    assert 0 < int(turned.sum()) < 50
    assert fetch("basic+cutout:size=4").shape == clean.shape
    with pytest.raises(SettingError, match="autoaugment needs grey levels of uint8"):
        fetch("autoaugment")
    names = {"data": "digits", "model": "mlp", "base": "sgd"}
    made = Recipe(**names, augment="basic+autoaugment", data_noise=0.1)
    with pytest.raises(SettingError, match=r"autoaugment .* got --data-noise 0.1, whi"):
        build_augmented(made, train)


@pytest.mark.parametrize(
    ("samples", "classes", "task"),
    [
        (TokenSamples.from_sequences([torch.arange(4)]), "abcd", "next_token"),
        (TensorSamples(torch.zeros(3, 2), torch.zeros(3, 1)), "", "regression"),
        (
            TensorSamples(torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 0])),
            "ab",
            "classification",
        ),
    ],
)
def test_samples_that_are_no_pixels_are_refused(samples, classes, task):
    made = Dataset(
        name="x", train=samples, test=samples, classes=tuple(classes), task=task
    )
    with pytest.raises(
        SettingError, match="data_noise is for images in memory whose pixels have a"
    ):
        Selection(data_noise=0.1).apply(made)


@pytest.mark.parametrize("std", [-0.1, 101.0, float("nan")])
def test_a_standard_deviation_out_of_range_is_a_sentence(std):
    with pytest.raises(SettingError, match="data_noise must be between 0 and 100"):
        Selection(data_noise=std)


@pytest.mark.real_data
def test_levels_of_the_published_study_on_mnist(data_dir):
    dataset = load("mnist", data_dir)
    clean = Selection(train_samples=500).apply(dataset).train.inputs
    std = dataset.train.standardisation.std[0]
    for level in (0.2, 3.8):
        train = Selection(train_samples=500, data_noise=level).apply(dataset).train
        apart = (train.inputs - clean) * std
        assert float(apart.std()) == pytest.approx(level, rel=0.01)
