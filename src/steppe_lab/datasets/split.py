"""Which samples of a data set are trained on, with which labels, judged on which."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from steppe.errors import SettingError, check_choice
from steppe.registry.bounds import Ranges, at_least, check_bounds
from steppe.seeds import seed_named, stream
from steppe_lab.datasets.abstract import DATASETS, Dataset, outputs_for
from steppe_lab.datasets.samples import AbstractSamples

HeldOut = Literal["test", "validation"]
BOUNDS: Ranges = {"train_samples": at_least(1), "label_noise": (0.0, 1.0)}
MAX_VALIDATION = 5000  # samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Samples to train on and samples to judge on."""

    train: AbstractSamples  # N, with the labels trained on
    test: AbstractSamples  # M, their labels never noisy
    true_targets: Tensor  # (N,) training labels before label noise
    positions: Tensor  # (N,) places of the training samples in the training pool
    classes: tuple[str, ...]
    task: str  # its name
    notes: tuple[str, ...] = ()

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W) for images."""
        return self.train.in_shape

    @property
    def outputs(self) -> int:
        """Number of outputs that a model needs."""
        return outputs_for(self.classes, self.train.targets)

    @functools.cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all inputs and labels, their shapes and types; 64 digits."""
        total = hashlib.sha256()
        for header, pieces in (*self.train.arrays(), *self.test.arrays()):
            total.update(header.encode())
            for tensor in pieces:
                total.update(tensor.detach().cpu().contiguous().numpy().data)
        return total.hexdigest()

    def some(
        self, part: Literal["train", "test"], samples: int, *, seed: int
    ) -> AbstractSamples:
        """At most so many samples of a part, drawn by a seed."""
        pool = self.train if part == "train" else self.test
        if samples >= len(pool):
            return pool
        return pool.chosen(positions_of(part, len(pool), samples, seed=seed))


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Settings of a split; every random choice follows from `seed` alone.

    With one seed, smaller training sets lie within larger ones, the labels flipped at
    a low noise level are also flipped, to the same classes, at a higher one, and the
    validation set is the same for all training sets that leave room for it.

    Args:
        train_samples: samples drawn from the training pool; None takes as many as
            the data set recommends, or all.
        label_noise: fraction of the training labels, 0 to 1, that are exchanged for
            another class, drawn uniformly from the others.
        held_out: judge on the test set, or on at most 5,000 unused samples of the
            training pool, which keeps the test set unseen while settings are tuned.
        seed: of the samples drawn and of the labels exchanged.

    Raises:
        SettingError: a setting out of range.
    """

    train_samples: int | None = None
    label_noise: float = 0.0
    held_out: HeldOut = "test"
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds(vars(self), BOUNDS)
        check_choice("held_out", self.held_out, get_args(HeldOut))

    def apply(self, dataset: Dataset) -> Split:
        """Draw the samples and exchange the labels.

        Raises:
            SettingError: more samples than there are, or none left to judge on.
        """
        pool = len(dataset.train)
        samples = self._samples(dataset.name, pool)
        order = torch.randperm(pool, generator=_generator("samples", self.seed))
        train, positions = dataset.train, torch.arange(pool)
        if samples < pool:  # the whole pool keeps its order, and costs no copy
            positions = order[:samples]
            train = train.chosen(positions)
        noisy = exchange_labels(
            train.targets,
            len(dataset.classes),
            fraction=self.label_noise,
            seed=self.seed,
        )
        test, notes = self._judged_on(dataset, order, samples)
        return Split(
            train=train.with_targets(noisy),
            test=test,
            true_targets=train.targets,
            positions=positions,
            classes=dataset.classes,
            task=dataset.task,
            notes=dataset.notes + notes,
        )

    def _samples(self, name: str, pool: int) -> int:
        default = DATASETS[name].spec.train_samples if name in DATASETS else None
        wanted = self.train_samples or default or pool
        if wanted > pool:
            raise SettingError(
                f"train_samples must be at most the {pool:,} samples in the training "
                f"pool of {name}, got {wanted:,}."
            )
        return wanted

    def _judged_on(
        self, dataset: Dataset, order: Tensor, samples: int
    ) -> tuple[AbstractSamples, tuple[str, ...]]:
        if self.held_out == "test":
            return dataset.test, ()
        # From the end, so that training sets of all sizes are judged on the same.
        left = order[max(samples, len(order) - MAX_VALIDATION) :]
        if not len(left):
            raise SettingError(
                f"--held-out validation needs unused training samples, but all "
                f"{len(order):,} of {dataset.name} are trained on; set train_samples "
                f"below {len(order):,}."
            )
        note = f"judged on {len(left):,} unused training samples, not on the test set"
        return dataset.train.chosen(left), (note,)


def positions_of(part: str, pool: int, samples: int, *, seed: int) -> Tensor:
    """Positions of at most so many samples of a part, drawn by a seed.

    They are all in their order where there are no more than that.
    """
    if samples >= pool:
        return torch.arange(pool)
    generator = _generator(f"some of {part}", seed)
    return torch.randperm(pool, generator=generator)[:samples]


def exchange_labels(
    targets: Tensor, classes: int, *, fraction: float, seed: int
) -> Tensor:
    """Exactly round(fraction * N) labels exchanged for a different class each.

    Args:
        targets: N labels, shape (N,).
        classes: number of classes; the new one is uniform among the others.
        fraction: of the labels, 0 to 1.
        seed: decides which labels and which classes, and nothing else does.

    Raises:
        SettingError: noise is asked for where there is only one class, or a target
            is more than a class.
    """
    samples = len(targets)
    if fraction == 0:
        return targets
    if classes < 2:
        raise SettingError(
            f"label_noise needs at least 2 classes, got {classes}; leave it out."
        )
    if targets.dim() != 1:
        raise SettingError(
            "label_noise needs one class for each sample, got targets of shape "
            f"{tuple(targets.shape)}; leave it out."
        )
    generator = _generator("label noise", seed)
    chosen = torch.randperm(samples, generator=generator)[: round(fraction * samples)]
    shift = torch.randint(1, classes, (samples,), generator=generator)
    noisy = targets.clone()
    noisy[chosen] = (targets[chosen] + shift[chosen]) % classes
    return noisy


def _generator(purpose: str, seed: int) -> torch.Generator:
    """A stream of its own for each purpose, so that none disturbs another."""
    return stream(seed_named(f"{purpose} {seed}", bits=32))
