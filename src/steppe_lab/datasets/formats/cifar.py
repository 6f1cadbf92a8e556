"""The python version of CIFAR: pickles of pixels, a row for each image, and labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steppe.errors import DataError
from steppe_lab.datasets.abstract import check_labels
from steppe_lab.datasets.formats.pickles import read_pickled_dict
from steppe_lab.datasets.formats.published import Published

PIXELS = 3 * 32 * 32


def read_cifar(
    path: Path, published: Published, target: Path, *, key: str, classes: int
) -> tuple[NDArray[np.uint8], Tensor]:
    """Pixels (N, 3, 32, 32) and labels (N,) of one official file.

    Args:
        path: the file.
        published: where it comes from.
        target: where its archive is unpacked.
        key: the entry of the labels.
        classes: number of classes.

    Raises:
        DataError: a damaged file, or one that holds anything else.
    """
    again = published.fix(target)
    held = read_pickled_dict(path, again)
    for each in ("data", key):
        if each not in held:
            raise DataError(f"{path} must hold the entry '{each}'; {again}.")
    pixels, labels = held["data"], held[key]
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
        raise DataError(f"'{key}' in {path} must be a list of whole numbers; {again}.")
    where = f"labels in {path}"
    targets = check_labels(labels, classes, samples=len(pixels), where=where)
    return pixels.reshape(-1, 3, 32, 32), targets


def _is_small_int(value: object) -> bool:
    return type(value) is int and value.bit_length() < 64
