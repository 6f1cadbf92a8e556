"""Data sets: their samples, the facts about them, and the registry."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steppe.errors import DataError
from steppe.losses import IGNORED
from steppe.registry.registry import Choice, Registry, is_code
from steppe.registry.specs import Spec
from steppe_lab.datasets.formats.parallel import ParallelText
from steppe_lab.datasets.formats.published import Published
from steppe_lab.datasets.samples import AbstractSamples, CountedTargets


@dataclass(frozen=True, kw_only=True)
class Size:
    """The size of a data set as published, which is known without its files.

    Args:
        train: samples of the training pool.
        test: samples of the test set.
        in_shape: of one input, as far as a model must know it.
        outputs: that a model needs.
    """

    train: int
    test: int
    in_shape: tuple[int, ...]
    outputs: int


@dataclass(frozen=True, kw_only=True)
class DataSpec(Spec):
    """Facts about a data set."""

    folders: tuple[str, ...] = ()  # looked for under the data folder, in this order
    train_samples: int | None = None  # trained on when nothing is said; None is all
    needs_files: bool = True
    published: Published | None = None  # its files, where they can be fetched from
    parallel: ParallelText | None = None  # sentences that `steppe prepare` learns from
    # a function takes the settings of the data set, and may know no size for them
    size: Size | Callable[..., Size | None] | None = None
    # least and largest value of inputs that come without a standardisation
    inputs_between: tuple[float, float] | None = None


DATASETS = Registry("data set", DataSpec)


def size_of(choice: Choice) -> Size | None:
    """The published size of a data set with its settings; None where it is not known.

    Example:
        >>> size_of(DATASETS.parse("cifar10"))
        Size(train=50000, test=10000, in_shape=(3, 32, 32), outputs=10)
    """
    if is_code(choice.name):
        return None
    size = DATASETS[choice.name].spec.size
    return size(**choice.settings) if callable(size) else size


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Training pool and test set of a data set, in memory.

    Args:
        name: in tables and messages.
        train: the training pool.
        test: the test set.
        classes: names of the classes, or of the tokens of a vocabulary, which targets
            are positions in; empty where targets are numbers, which are rows of float32
            then, shape (N, K).
        task: name of the task that is learnt on it.
        notes: facts that a reader of results must know of the data.
        validation: a set that the authors made to tune settings on; None where there is
            none.

    Raises:
        DataError: counts, classes or shapes that contradict each other.
    """

    name: str
    train: AbstractSamples
    test: AbstractSamples
    classes: tuple[str, ...] = ()
    task: str = "classification"
    notes: tuple[str, ...] = ()
    validation: AbstractSamples | None = None

    def __post_init__(self) -> None:
        train = self.train.in_shape
        parts = {"test": self.test}
        if self.validation is not None:
            parts["validation"] = self.validation
        for part, samples in parts.items():
            if samples.in_shape != train:
                raise DataError(
                    f"{self.name}: training and {part} inputs must have one shape, "
                    f"got {train} and {samples.in_shape}."
                )
        for part, samples in {"training": self.train, **parts}.items():
            if self.classes and isinstance(samples, CountedTargets):
                where = f"{self.name}: the {part} targets"
                check_range(*samples.token_range(), len(self.classes), where=where)
            else:
                self._check(part, samples.targets, samples.count())

    def _check(self, part: str, targets: Tensor, samples: int) -> None:
        """Refuse targets of a part that contradict the classes."""
        where = f"{self.name}: the {part} targets"
        if not self.classes:
            check_numbers(targets, samples=samples, where=where)
            return
        if targets.dim() == 2:
            check_tokens(targets, len(self.classes), where=where)
            return
        where = f"{self.name}: the {part} labels"
        if targets.dtype != torch.int64:
            raise DataError(f"{where} must be int64, got {targets.dtype}.")
        check_labels(targets, len(self.classes), samples=samples, where=where)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W) for images."""
        return self.train.in_shape


def outputs_for(classes: Sequence[str], targets: Tensor) -> int:
    """Number of outputs that a model needs: one per class, or per value of a target."""
    return len(classes) or math.prod(targets.shape[1:])


def check_numbers(targets: Tensor, *, samples: int, where: str) -> None:
    """Refuse targets without classes that are no rows of finite float32.

    Raises:
        DataError: another type or shape, another number of rows, or not finite.
    """
    if targets.dtype != torch.float32 or targets.dim() < 2:
        raise DataError(
            f"{where} must be float32 of shape (samples, values) where there are no "
            f"classes, got {targets.dtype} of shape {tuple(targets.shape)}; convert "
            "them, or name the classes."
        )
    if len(targets) != samples or samples == 0:
        raise DataError(
            f"{where} must be as many as the inputs and at least one, got "
            f"{len(targets):,} for {samples:,} inputs."
        )
    if not targets.isfinite().all():
        raise DataError(f"{where} must be finite, got NaN or infinity; leave them out.")


def check_tokens(targets: Tensor, vocabulary: int, *, where: str) -> None:
    """Refuse rows of targets that are no tokens of a vocabulary, or -100.

    Raises:
        DataError: another type, no sequence, no token that counts, or one out of range.
    """
    if targets.dtype not in (torch.int16, torch.int32, torch.int64):
        raise DataError(f"{where} must be whole numbers, got {targets.dtype}.")
    counted = targets[targets != IGNORED]
    if not len(counted):
        raise DataError(f"{where} must hold a token that counts, got none.")
    check_range(int(counted.min()), int(counted.max()), vocabulary, where=where)


def check_range(low: int, high: int, vocabulary: int, *, where: str) -> None:
    """Refuse tokens that a vocabulary does not have.

    Args:
        low: the smallest token.
        high: the largest one.
        vocabulary: number of tokens that there are.
        where: what holds the tokens, for the sentence.

    Raises:
        DataError: one that is out of range.
    """
    if low < 0 or high >= vocabulary:
        raise DataError(
            f"{where} must be 0 to {vocabulary - 1} or {IGNORED}, got "
            f"{low if low < 0 else high}; name every token of the vocabulary in "
            "classes."
        )


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


def note_on_count(
    part: str, count: int, official: int, samples: str = "images"
) -> tuple[str, ...]:
    """A note when a part has another count than the official one.

    Whether the samples are some of the official ones nobody knows: text of the user's
    own may have the names of official files.
    """
    if count == official:
        return ()
    return (f"{count:,} {part} {samples}, where the official set has {official:,}",)
