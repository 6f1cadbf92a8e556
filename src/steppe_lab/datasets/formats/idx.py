"""Data sets of grey images in idx files, the format MNIST was published in.

An idx file is a magic number (two zero bytes, the type of its values, its number of
axes), the length of each axis as big-endian uint32, then the values.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

from steppe.errors import DataError
from steppe_lab.datasets.abstract import (
    Dataset,
    check_labels,
    note_on_count,
)
from steppe_lab.datasets.formats.published import Published, folder_of, read_start
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.datasets.standardising import (
    ChannelStatistics,
    Standardise,
    standardisation_of,
)

MAGIC = {"images": 0x00000803, "labels": 0x00000801}  # unsigned bytes; 3 axes, 1 axis
PARTS = ("train", "t10k")
SIDE = 28  # pixels
MOST = 2**27  # values of a file; the official ones have 47,040,000
OFFICIAL = {"training": 60_000, "test": 10_000}  # images
FIRST_LABELS = {  # the data sets share names of files and shapes; these differ
    "MNIST": [5, 0, 4, 1, 9, 2, 1, 3, 1, 4, 3, 5],
    "Fashion-MNIST": [9, 0, 0, 3, 0, 2, 7, 2, 5, 5, 0, 9],
}


def read_idx(
    path: Path, kind: Literal["images", "labels"], published: Published
) -> NDArray[np.uint8]:
    """Values of an idx file, plain or gzip: (N, H, W) images or (N,) labels.

    Raises:
        DataError: another kind of file, or another number of bytes than it promises.
    """
    again = f"delete it and {published.fix(path.parent)}"
    header = read_start(path, 16, again)
    magic = int.from_bytes(header[:4], "big")
    if magic != MAGIC[kind]:
        other = next(
            (k for k, v in MAGIC.items() if v == magic), "no idx file of bytes"
        )
        raise DataError(
            f"{path} must hold {kind} (magic number 0x{MAGIC[kind]:08x}), got {other} "
            f"(0x{magic:08x}); {again}."
        )
    axes = magic & 0xFF
    start = 4 + 4 * axes
    if len(header) < start:
        raise DataError(f"{path} is truncated: it ends within its header; {again}.")
    shape = struct.unpack(f">{axes}I", header[4:start])
    promised = math.prod(shape)
    if promised > MOST:
        raise DataError(
            f"{path} is damaged: its header promises {promised:,} values, and at most "
            f"{MOST:,} are read; {again}."
        )
    raw = read_start(path, start + promised + 1, again)
    surplus = len(raw) - start - promised
    if surplus:
        more = " or more" if surplus > 0 else ""
        raise DataError(
            f"{path} is truncated or damaged: its header promises "
            f"{promised:,} values, got {len(raw) - start:,}{more}; {again}."
        )
    # A copy, because torch wants memory that it may write to.
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape).copy()


def read_part(
    folder: Path, part: str, published: Published, classes: int
) -> tuple[NDArray[np.uint8], Tensor]:
    """Images (N, 1, 28, 28) and labels (N,) of the training or the test part."""
    images_path = published.require(folder, f"{part}-images-idx3-ubyte")
    labels_path = published.require(folder, f"{part}-labels-idx1-ubyte")
    images = read_idx(images_path, "images", published)
    if images.shape[1:] != (SIDE, SIDE):
        raise DataError(
            f"{images_path} must hold images of {SIDE} x {SIDE} pixels, got "
            f"{images.shape[1]} x {images.shape[2]}; use the official file."
        )
    labels = read_idx(labels_path, "labels", published)
    where = f"labels in {labels_path}"
    targets = check_labels(labels, classes, samples=len(images), where=where)
    return images[:, None], targets


def read_grey_images(
    name: str,
    published: Published,
    data_dir: Path | None,
    *,
    classes: tuple[str, ...],
    statistics: ChannelStatistics,
    standardise: Standardise,
) -> Dataset:
    """A data set in four idx files, named as MNIST names them."""
    kinds = ("images-idx3-ubyte", "labels-idx1-ubyte")
    names = [f"{part}-{kind}" for part in PARTS for kind in kinds]
    folder = folder_of(published, data_dir, names)
    train, train_targets = read_part(folder, "train", published, len(classes))
    _refuse_another_set(train_targets, folder, published)
    test, test_targets = read_part(folder, "t10k", published, len(classes))
    pixels = from_numpy(train)
    standardisation = standardisation_of(pixels, standardise, statistics)
    return Dataset(
        name=name,
        train=TensorSamples(pixels, train_targets, standardisation),
        test=TensorSamples(from_numpy(test), test_targets, standardisation),
        classes=classes,
        notes=note_on_count("training", len(train), OFFICIAL["training"])
        + note_on_count("test", len(test), OFFICIAL["test"]),
    )


def _refuse_another_set(targets: Tensor, folder: Path, published: Published) -> None:
    for title, first in FIRST_LABELS.items():
        if title != published.title and targets[: len(first)].tolist() == first:
            raise DataError(
                f"{folder} holds {title}, not {published.title}; name the folder "
                f"that holds the folder {published.put_into} with --data-dir DIR."
            )
