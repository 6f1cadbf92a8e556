"""CIFAR-10: 32 x 32 colour images of ten kinds of things, 50,000 and 10,000 for test.

Source: Krizhevsky, 2009, Learning multiple layers of features from tiny images; the
python version.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, cat, from_numpy

from steppe.errors import DataError
from steppe_lab.datasets.abstract import (
    DATASETS,
    Dataset,
    check_labels,
    note_if_fewer,
)
from steppe_lab.datasets.formats.pickles import read_pickled_dict
from steppe_lab.datasets.formats.published import Published, folder_of
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.datasets.standardising import (
    ChannelStatistics,
    Standardise,
    standardisation_of,
)

PUBLISHED = Published(
    title="CIFAR-10",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    folders=("cifar10/cifar-10-batches-py", "cifar-10-batches-py", "cifar10", "."),
    put_into="cifar10",
    unpack=True,
)
STATISTICS = ChannelStatistics(
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    image_std=(0.2023, 0.1994, 0.2010),
)
TRAIN_FILES = tuple(f"data_batch_{i}" for i in range(1, 6))
OFFICIAL_TEST = 10_000  # images
PIXELS = 3 * 32 * 32
CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


@DATASETS.add(
    "cifar10",
    source="Krizhevsky, 2009",
    folders=PUBLISHED.folders,
    later=("standardise",),
)
def cifar10(
    *, data_dir: Path | None = None, standardise: Standardise = "channel"
) -> Dataset:
    """Photographs of ten kinds of things, 32 x 32 colour, from the official pickles.

    Reads those of the five official training files that exist.

    Args:
        data_dir: folder that holds cifar-10-batches-py, or that folder itself.
        standardise: with which statistics; see `standardisation_of`.
    """
    folder = folder_of(PUBLISHED, data_dir, ["test_batch"])
    train_paths = [p for p in map(folder.joinpath, TRAIN_FILES) if p.is_file()]
    if not train_paths:
        raise PUBLISHED.missing(TRAIN_FILES[0], [folder], _target(folder))
    train = [_read(path) for path in train_paths]
    train_pixels = from_numpy(np.concatenate([pixels for pixels, _ in train]))
    test_pixels, test_targets = _read(folder / "test_batch")
    standardisation = standardisation_of(train_pixels, standardise, STATISTICS)
    notes = note_if_fewer("test", len(test_pixels), OFFICIAL_TEST)
    if len(train) < len(TRAIN_FILES):
        files = f"{len(train)} of {len(TRAIN_FILES)} official training files"
        notes = (f"{files}, {len(train_pixels):,} images", *notes)
    return Dataset(
        name="cifar10",
        train=TensorSamples(
            train_pixels, cat([targets for _, targets in train]), standardisation
        ),
        test=TensorSamples(from_numpy(test_pixels), test_targets, standardisation),
        classes=CLASSES,
        notes=notes,
    )


def _read(path: Path) -> tuple[NDArray[np.uint8], Tensor]:
    """Pixels (N, 3, 32, 32) and labels (N,) of one official file."""
    again = PUBLISHED.fix(_target(path.parent))
    held = read_pickled_dict(path, again)
    for key in ("data", "labels"):
        if key not in held:
            raise DataError(f"{path} must hold the entry '{key}'; {again}.")
    pixels, labels = held["data"], held["labels"]
    if not isinstance(pixels, np.ndarray):
        raise DataError(
            f"'data' in {path} must be an array, got {type(pixels).__name__}; {again}."
        )
    if pixels.dtype != np.uint8 or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise DataError(
            f"'data' in {path} must be bytes of shape (images, {PIXELS}), "
            f"got {pixels.dtype} of shape {pixels.shape}; {again}."
        )
    if not isinstance(labels, list) or not all(map(_is_small_int, labels)):
        raise DataError(f"'labels' in {path} must be a list of whole numbers; {again}.")
    where = f"labels in {path}"
    targets = check_labels(labels, len(CLASSES), samples=len(pixels), where=where)
    return pixels.reshape(-1, 3, 32, 32), targets


def _is_small_int(value: object) -> bool:
    return type(value) is int and value.bit_length() < 64


def _target(folder: Path) -> Path:
    """Where the archive is unpacked, given the folder that comes out of it."""
    return folder.parent if folder.name == "cifar-10-batches-py" else folder
