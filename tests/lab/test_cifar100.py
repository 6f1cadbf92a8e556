"""CIFAR-100 from pickles in the official layout, written here."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from steppe.errors import DataError, SettingError
from steppe_lab.datasets import DATASETS, load


def part(labels, *, text=bytes):
    """A file of the archive: a grey level and two labels for each image."""
    held = {
        "filenames": [f"thing_s_{i:06}.png" for i in range(len(labels))],
        "batch_label": "training batch 1 of 1",
        "fine_labels": labels,
        "coarse_labels": [label // 5 for label in labels],
        "data": np.repeat(np.array(labels, np.uint8)[:, None], 3072, axis=1),
    }
    return {text(key, "ascii") if text is bytes else key: v for key, v in held.items()}


def write(folder, **change):
    folder.mkdir(parents=True, exist_ok=True)
    for name, labels in (("train", [19, 29, 0, 99]), ("test", [49, 33])):
        held = part(labels)
        held |= {key.encode(): value for key, value in change.items()}
        (folder / name).write_bytes(pickle.dumps(held, 2))
    return folder


@pytest.mark.parametrize("folder", DATASETS["cifar100"].spec.folders)
def test_images_and_fine_labels_are_read_in_each_layout(folder, tmp_path):
    write(tmp_path / folder)
    data = load("cifar100", tmp_path)
    assert data.train.targets.tolist() == [19, 29, 0, 99]
    assert data.train.stored.shape == (4, 3, 32, 32)
    assert data.train.stored[1].unique().tolist() == [29]
    assert (len(data.classes), data.classes[19]) == (100, "cattle")
    assert data.notes == (
        "4 training images, where the official set has 50,000",
        "2 test images, where the official set has 10,000",
    )
    inputs = (29 / 255 - 0.4865) / 0.2564
    assert data.train.inputs[1, 1, 0, 0].item() == pytest.approx(inputs, rel=1e-5)


def test_coarse_labels_are_groups_of_classes(tmp_path):
    data = load("cifar100:labels=coarse", write(tmp_path))
    assert data.train.targets.tolist() == [3, 5, 0, 19]
    assert len(data.classes) == 20


def test_keys_as_text_are_read_too(tmp_path):
    write(tmp_path)
    (tmp_path / "test").write_bytes(pickle.dumps(part([7], text=str), 4))
    assert load("cifar100", tmp_path).test.targets.tolist() == [7]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"fine_labels": [0, 1, 2, 100]}, "must be 0 to 99, got 100 at position 3"),
        ({"fine_labels": "abc"}, "'fine_labels' in"),
        ({"data": np.zeros((4, 3071), np.uint8)}, "got uint8 of shape (4, 3071)"),
    ],
)
def test_files_of_another_form_are_refused(change, expected, tmp_path):
    write(tmp_path, **change)
    with pytest.raises(DataError) as caught:
        load("cifar100", tmp_path)
    assert expected in str(caught.value)


def test_the_file_of_cifar10_is_not_taken_for_it(tmp_path):
    write(tmp_path)
    held = {"data": np.zeros((1, 3072), np.uint8), "labels": [3]}
    (tmp_path / "train").write_bytes(pickle.dumps(held, 2))
    with pytest.raises(DataError, match="must hold the entry 'fine_labels'"):
        load("cifar100", tmp_path)


def test_another_kind_of_labels_is_refused(tmp_path):
    with pytest.raises(SettingError, match="labels must be one of fine, coarse"):
        load("cifar100:labels=superclass", tmp_path)


@pytest.mark.slow
def test_a_file_as_large_as_the_official_one_may_be(tmp_path):
    labels = [i % 100 for i in range(50_000)]
    write(tmp_path)
    (tmp_path / "train").write_bytes(pickle.dumps(part(labels), 2))
    data = load("cifar100", tmp_path)
    assert data.train.targets.tolist() == labels
    assert data.notes == ("2 test images, where the official set has 10,000",)
