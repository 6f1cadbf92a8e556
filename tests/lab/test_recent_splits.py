"""Splits that a process has read before: given again, or read again where it must."""

import os
import struct

import numpy as np
import pytest
import torch

from steppe.errors import DataError
from steppe_lab.datasets import recent
from steppe_lab.datasets.loading import DATA_DIR, load_split
from steppe_lab.datasets.recent import forget_splits, recent_split
from steppe_lab.training.recipe import Recipe
from tests.support.own_files import package


@pytest.fixture(autouse=True)
def _nothing_held():
    forget_splits()
    yield
    forget_splits()


def recipe(**settings):
    return Recipe.model_validate(
        {"data": "digits", "model": "mlp", "base": "sgd:lr=0.1", **settings}
    )


def write_images(folder, *, brightness):
    """Six images for training and four for tests, as MNIST has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", 6), ("t10k", 4)):
        images = np.full((count, 28, 28), brightness, np.uint8)
        labels = np.arange(count, dtype=np.uint8)
        for name, values in (("images-idx3", images), ("labels-idx1", labels)):
            shape = values.shape
            header = struct.pack(f">I{len(shape)}I", 0x800 + len(shape), *shape)
            (folder / f"{part}-{name}-ubyte").write_bytes(header + values.tobytes())


def test_a_split_is_given_again_and_is_the_one_that_is_read():
    first = recent_split(recipe(seed=0))
    assert recent_split(recipe(seed=1, model="mlp:hidden=4")) is first
    assert first.fingerprint == load_split(recipe()).fingerprint


@pytest.mark.parametrize(
    "settings",
    [
        {"train_samples": 50},
        {"label_noise": 0.2},
        {"data_seed": 3},
        {"held_out": "validation"},
        {"data": "digits:standardise=pixel"},
    ],
    ids=str,
)
def test_another_selection_is_another_split(settings):
    first, other = recent_split(recipe()), recent_split(recipe(**settings))
    assert other.fingerprint == load_split(recipe(**settings)).fingerprint
    assert other.fingerprint != first.fingerprint
    assert recent_split(recipe()) is first


@pytest.mark.parametrize("part", ["stored", "targets"])
def test_a_split_that_somebody_wrote_to_is_read_again(part):
    first = recent_split(recipe())
    getattr(first.test, part)[:3].zero_()  # through a view, as a model may get one
    again = recent_split(recipe())
    assert again is not first
    assert again.fingerprint == load_split(recipe()).fingerprint


def test_files_that_changed_are_read_again(tmp_path, monkeypatch):
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    mnist = recipe(data="mnist")
    with pytest.raises(DataError, match="MNIST"):
        recent_split(mnist)
    write_images(tmp_path / "mnist", brightness=10)
    first = recent_split(mnist)
    assert recent_split(mnist) is first
    write_images(tmp_path / "mnist", brightness=200)
    second = recent_split(mnist)
    assert int(second.train.stored.max()) == 200
    # Files of a folder that is looked at first come in the place of others.
    os.rename(tmp_path / "mnist", tmp_path / "MNIST")
    with pytest.raises(DataError):
        recent_split(mnist)


def test_another_data_folder_is_other_data(tmp_path, monkeypatch):
    for name, brightness in (("a", 10), ("b", 20)):
        write_images(tmp_path / name / "mnist", brightness=brightness)
    seen = []
    for name in "aba":
        monkeypatch.setenv(DATA_DIR, str(tmp_path / name))
        seen.append(recent_split(recipe(data="mnist")))
    assert [int(split.train.stored.max()) for split in seen] == [10, 20, 10]
    assert seen[0] is seen[2]


OWN = """
import torch
calls = []
def load():
    calls.append(1)
    x = torch.linspace(0, 1, 24).view(12, 2)
    y = torch.arange(12) % 2
    return {"train": (x[:8], y[:8]), "test": (x[8:], y[8:])}
"""


def test_code_of_the_user_is_called_once(tmp_path, monkeypatch):
    with package(tmp_path, monkeypatch, "recentdata", own=OWN):
        own = recipe(data="recentdata.own:load")
        first = recent_split(own)
        assert recent_split(own) is first
        import recentdata.own as module

        assert len(module.calls) == 1
        edited = own.model_copy(update={"code": {"recentdata.own:load": "0" * 64}})
        assert recent_split(edited) is not first


def test_no_more_is_held_than_fits(monkeypatch):
    first = recent_split(recipe())
    size = sum(t.nbytes for t in recent._tensors(first))
    monkeypatch.setattr(recent, "BYTES", 2.5 * size)
    splits = [recent_split(recipe(data_seed=seed)) for seed in (0, 1, 2)]
    assert recent_split(recipe(data_seed=2)) is splits[2]
    assert recent_split(recipe(data_seed=1)) is splits[1]
    assert recent_split(recipe(data_seed=0)) is not splits[0]
    monkeypatch.setattr(recent, "BYTES", 0)
    large = recent_split(recipe(data_seed=5))
    assert recent_split(recipe(data_seed=5)) is large


def test_reading_does_not_touch_the_random_state():
    torch.manual_seed(5)
    recent_split(recipe())
    drawn = torch.rand(3)
    torch.manual_seed(5)
    recent_split(recipe())
    assert torch.equal(torch.rand(3), drawn)
