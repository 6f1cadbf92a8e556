"""What a data set is: its samples, the facts about it, and the registry of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steppe.errors import DataError
from steppe.registry import Registry, Spec


@dataclass(frozen=True, kw_only=True)
class DataSpec(Spec):
    """Facts about a data set."""

    folders: tuple[str, ...] = ()  # looked for under the data folder, in this order
    train_samples: int | None = None  # trained on when nothing is said; None is all
    needs_files: bool = True


DATASETS = Registry("data set", DataSpec)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Training pool and test set of a classification problem, in memory.

    Raises:
        DataError: counts, classes or shapes that contradict each other.
    """

    name: str
    train_inputs: Tensor  # (N, C, H, W) float32, standardised
    train_targets: Tensor  # (N,) int64
    test_inputs: Tensor  # (M, C, H, W)
    test_targets: Tensor  # (M,)
    classes: tuple[str, ...]
    standardised_with: tuple[tuple[float, ...], tuple[float, ...]]  # mean, std; (C,)
    notes: tuple[str, ...] = ()  # what a reader of results must know of the data

    def __post_init__(self) -> None:
        train, test = tuple(self.train_inputs.shape), tuple(self.test_inputs.shape)
        if train[1:] != test[1:]:
            raise DataError(
                f"{self.name}: training and test inputs must have one shape, "
                f"got {train[1:]} and {test[1:]}."
            )
        for part, inputs, targets in (
            ("training labels", train, self.train_targets),
            ("test labels", test, self.test_targets),
        ):
            where = f"{self.name}: the {part}"
            if targets.dtype != torch.int64:
                raise DataError(f"{where} must be int64, got {targets.dtype}.")
            check_labels(targets, len(self.classes), samples=inputs[0], where=where)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W)."""
        return tuple(self.train_inputs.shape[1:])


def check_labels(
    targets: Tensor | NDArray[np.integer] | Sequence[int],
    classes: int,
    *,
    samples: int,
    where: str,
) -> Tensor:
    """Labels as int64 tensor, shape (N,), one per sample and each of a known class.

    Args:
        targets: one whole number per sample.
        classes: number of classes; labels must be 0 to classes - 1.
        samples: number of inputs the labels belong to.
        where: what holds the labels, for the sentence.

    Raises:
        DataError: no samples, another number of labels, or a label out of range.
    """
    labels = torch.as_tensor(targets)
    if labels.is_floating_point() or labels.is_complex() or labels.ndim != 1:
        raise DataError(
            f"{where} must be one whole number per sample, "
            f"got {labels.dtype} of shape {tuple(labels.shape)}."
        )
    if len(labels) != samples:
        raise DataError(
            f"{where} must be as many as the inputs, got {len(labels):,} for "
            f"{samples:,} inputs; use two files of the same part of the data set."
        )
    if samples == 0:
        raise DataError(f"{where} must be at least one, got none.")
    labels = labels.to(torch.int64)
    wrong = ((labels < 0) | (labels >= classes)).nonzero()
    if len(wrong):
        position = int(wrong[0])
        raise DataError(
            f"{where} must be 0 to {classes - 1}, got {int(labels[position])} at "
            f"position {position:,}; use the unchanged official file."
        )
    return labels


def standardised(
    pixels: NDArray[np.uint8], mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """Pixels (N, C, H, W) of 0 to 255 as (x / 255 - mean) / std, in float32."""
    inputs = torch.from_numpy(pixels).to(torch.float32)
    shape = (1, len(mean), 1, 1)
    centre, spread = torch.tensor(mean).view(shape), torch.tensor(std).view(shape)
    # In place: CIFAR-10 is 600 MB in float32, and one copy is enough.
    return inputs.div_(255).sub_(centre).div_(spread)


def note_if_fewer(part: str, found: int, official: int) -> tuple[str, ...]:
    """A note when a part of a data set is not complete."""
    if found == official:
        return ()
    return (f"{found:,} of {official:,} official {part} images",)
