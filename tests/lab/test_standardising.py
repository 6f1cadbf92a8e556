"""How pixels become inputs: each kind against numpy in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from steppe.errors import SettingError
from steppe_lab.datasets import DATASETS, load
from steppe_lab.datasets.standardising import ChannelStatistics, standardisation_of
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import TrainingSettings
from steppe_lab.runs.training import recipe_of
from steppe_lab.store.store import run_id

PUBLISHED = ChannelStatistics(mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
IMAGES = [entry.name for entry in DATASETS if "standardise" in entry.settings()]


@pytest.fixture(scope="module")
def pixels():
    generator = torch.Generator().manual_seed(0)
    dark = torch.randint(0, 90, (40, 3, 5, 4), generator=generator)
    return (dark + torch.arange(3).view(1, 3, 1, 1) * 70).to(torch.uint8)


def expected(kind, pixels):
    x = pixels.numpy().astype(np.float64) / 255
    mean = np.array(PUBLISHED.mean).reshape(3, 1, 1)
    std = np.array(PUBLISHED.std).reshape(3, 1, 1)
    if kind == "unit":
        return x
    if kind == "computed":
        mean = x.mean((0, 2, 3)).reshape(3, 1, 1)
        std = x.std((0, 2, 3), ddof=1).reshape(3, 1, 1)
    if kind == "image_std":
        std = x.std((2, 3), ddof=1).mean(0).reshape(3, 1, 1)
    if kind == "pixel":
        mean, std = x.mean(0), x.std(ddof=1)
    return (x - mean) / std


@pytest.mark.parametrize("kind", ["channel", "computed", "image_std", "pixel", "unit"])
def test_inputs_are_those_of_the_formula(kind, pixels):
    inputs = standardisation_of(pixels, kind, PUBLISHED)(pixels)
    assert inputs.dtype == torch.float32
    np.testing.assert_allclose(inputs, expected(kind, pixels), rtol=1e-5, atol=1e-6)


def test_deviations_within_images_are_the_published_ones_where_there_are_any(pixels):
    published = ChannelStatistics(**vars(PUBLISHED) | {"image_std": (0.7, 0.8, 0.9)})
    assert standardisation_of(pixels, "image_std", published).std == (0.7, 0.8, 0.9)


@pytest.mark.parametrize("kind", ["computed", "image_std", "pixel"])
def test_statistics_are_those_of_the_training_pool_alone(kind):
    data = load(f"digits:standardise={kind}")
    train, test = data.train.standardisation, data.test.standardisation
    assert train is test
    of_pool = standardisation_of(
        data.train.stored,
        kind,
        ChannelStatistics(mean=load("digits").train.standardisation.mean, std=(1.0,)),
        scale=16,
    )
    assert torch.equal(of_pool(data.test.stored), data.test.inputs)


def test_pixels_of_digits_are_between_0_and_1_where_that_is_asked():
    inputs = load("digits:standardise=unit").train.inputs
    assert (inputs.min().item(), inputs.max().item()) == (0.0, 1.0)


@pytest.mark.parametrize("name", IMAGES)
def test_the_default_is_left_out_of_records_whether_it_is_said_or_not(name):
    said, unsaid = (
        recipe_of(TrainingSettings(data=text), "sgd", 0)
        for text in (f"{name}:standardise=channel", name)
    )
    assert said == unsaid
    assert "standardise" not in said.data.settings
    other = recipe_of(TrainingSettings(data=f"{name}:standardise=unit"), "sgd", 0)
    ids = {run_id(config_of(recipe)) for recipe in (said, unsaid, other)}
    assert len(ids) == 2


def test_another_kind_is_refused():
    with pytest.raises(
        SettingError, match="standardise must be one of channel, computed"
    ):
        load("digits:standardise=zca")


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "tolerance"), [("mnist", 5e-5), ("cifar10", 3e-3), ("fashion_mnist", 1e-3)]
)
def test_published_statistics_are_those_of_the_published_pixels(
    name, tolerance, data_dir
):
    channel, computed = (
        load(f"{name}:standardise={kind}", data_dir).train.standardisation
        for kind in ("channel", "computed")
    )
    assert channel.mean == pytest.approx(computed.mean, abs=tolerance)
    assert channel.std == pytest.approx(computed.std, abs=tolerance)


@pytest.mark.real_data
def test_the_small_deviations_for_cifar10_are_those_within_images(data_dir):
    data = load("cifar10:standardise=image_std", data_dir)
    assert data.train.standardisation.std == (0.2023, 0.1994, 0.2010)
    within = (data.train.stored / 255).std((2, 3)).mean(0)
    assert within.tolist() == pytest.approx((0.2023, 0.1994, 0.2010), abs=1e-3)
