"""CIFAR-10: 32 x 32 colour images of ten kinds of things, 50,000 and 10,000 for test.

Source: Krizhevsky, 2009, Learning multiple layers of features from tiny images; the
python version.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import cat, from_numpy

from steppe_lab.datasets.abstract import DATASETS, Dataset, Size, note_on_count
from steppe_lab.datasets.formats.cifar import read_cifar
from steppe_lab.datasets.formats.published import (
    Download,
    Published,
    folder_of,
)
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.datasets.standardising import (
    ChannelStatistics,
    Standardise,
    standardisation_of,
)

URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
PUBLISHED = Published(
    name="cifar10",
    title="CIFAR-10",
    url=URL,
    downloads=(Download(URL, 170498071, f"sha256:{SHA256}"),),
    top="cifar-10-batches-py",
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
    published=PUBLISHED,
    size=Size(
        train=50_000, test=OFFICIAL_TEST, in_shape=(3, 32, 32), outputs=len(CLASSES)
    ),
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
    train, test = (
        [
            read_cifar(
                path, PUBLISHED, _target(folder), key="labels", classes=len(CLASSES)
            )
            for path in paths
        ]
        for paths in (train_paths, [folder / "test_batch"])
    )
    train_pixels = from_numpy(np.concatenate([pixels for pixels, _ in train]))
    ((test_pixels, test_targets),) = test
    standardisation = standardisation_of(train_pixels, standardise, STATISTICS)
    notes = note_on_count("test", len(test_pixels), OFFICIAL_TEST)
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


def _target(folder: Path) -> Path:
    """Where the archive is unpacked, given the folder that comes out of it."""
    return folder.parent if folder.name == "cifar-10-batches-py" else folder
