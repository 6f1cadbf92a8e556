"""Digits: 1,797 grey images of 8 x 8 pixels that ship with scikit-learn.

Source: Alpaydin and Kaynak, 1998, Optical recognition of handwritten digits, UCI
machine learning repository (its test part, as scikit-learn's load_digits has it).

The set has no official split. One permutation, `torch.randperm` on a generator with
seed 1797, is fixed for good: its first 1,297 images are the training pool, the other
500 the test set. Standardised with mean and standard deviation of the pool's pixels.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from steppe.errors import DataError, install
from steppe_lab.datasets.abstract import DATASETS, Dataset, Size
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.datasets.standardising import (
    ChannelStatistics,
    Standardise,
    standardisation_of,
)

SPLIT_SEED = 1797
POOL = 1297  # images for training; the other 500 are the test set
GREY_LEVELS = 16  # pixels are whole numbers from 0 to this


@DATASETS.add(
    "digits",
    source="Alpaydin and Kaynak, 1998",
    train_samples=1000,
    needs_files=False,
    size=Size(train=POOL, test=500, in_shape=(1, 8, 8), outputs=10),
    later=("standardise",),
)
def digits(
    *, data_dir: Path | None = None, standardise: Standardise = "channel"
) -> Dataset:
    """Handwritten digits, 8 x 8 grey, that ship with scikit-learn: no download.

    Args:
        data_dir: not looked at; every loader is called with it.
        standardise: with which statistics; see `standardisation_of`.
    """
    del data_dir
    images, labels = _published()
    pixels = torch.from_numpy(images).to(torch.uint8).view(-1, 1, 8, 8)
    targets = torch.from_numpy(labels).to(torch.int64)

    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(pixels), generator=generator)
    pool, rest = order[:POOL], order[POOL:]
    grey = pixels[pool].to(torch.float32) / GREY_LEVELS
    # In float32, which the first stored runs saw.
    pool_statistics = ChannelStatistics(
        mean=(grey.mean().item(),), std=(grey.std().item(),)
    )
    standardisation = standardisation_of(
        pixels[pool], standardise, pool_statistics, scale=GREY_LEVELS
    )
    return Dataset(
        name="digits",
        train=TensorSamples(pixels[pool], targets[pool], standardisation),
        test=TensorSamples(pixels[rest], targets[rest], standardisation),
        classes=tuple("0123456789"),
    )


def _published() -> tuple[np.ndarray, np.ndarray]:
    """Pixels, shape (1797, 64), and labels, shape (1797,), as scikit-learn has them."""
    try:
        spec = find_spec("sklearn")
    except ValueError:  # one that is being hidden
        spec = None
    if spec is None or spec.origin is None:
        raise DataError(
            f"digits ships with scikit-learn, which is not installed; {install('lab')}."
        )
    file = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
    if file.exists():
        # Importing scikit-learn takes longer than training a network on the digits.
        rows = np.loadtxt(file, delimiter=",")
        return rows[:, :-1], rows[:, -1]
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return images, labels
