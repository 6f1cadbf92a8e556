"""Which samples of a data set are trained on, with which labels, judged on which."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from steppe.errors import SettingError, check_choice
from steppe.registry.bounds import Range, Ranges, at_least, check_bounds
from steppe.seeds import seed_named, stream
from steppe_lab.datasets.abstract import DATASETS, Dataset, outputs_for
from steppe_lab.datasets.data_noise import with_noise
from steppe_lab.datasets.label_noise import WORDS, LabelNoise, noisy_labels
from steppe_lab.datasets.samples import AbstractSamples
from steppe_lab.datasets.subsets import Ranking, Subset, rank

HeldOut = Literal["test", "validation"]
_SHARE = Range(0.0, 1.0, above=True)
BOUNDS: Ranges = {
    "train_samples": at_least(1),
    "train_fraction": _SHARE,
    "test_fraction": _SHARE,
    "label_noise": (0.0, 1.0),
    "data_noise": (0.0, 100.0),
    "validation_seed": at_least(0),
}
MAX_VALIDATION = 5000  # samples
CLEAN, RANDOM, RANDOM_TRUE = "clean", "random", "random_true"
SHARE = 5  # of a training pool, one sample in so many is set apart for validation


@dataclass(frozen=True, eq=False)
class SampleGroup:
    """Some of N samples, with the targets to judge them by."""

    chosen: Tensor  # (N,) bool
    targets: Tensor  # (N, ...) of all samples


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Samples to train on and samples to judge on."""

    train: AbstractSamples  # N, with the labels trained on
    test: AbstractSamples  # M, their labels never noisy
    clean: AbstractSamples  # N, those trained on before all noise
    positions: Tensor  # (N,) places of the training samples in the training pool
    noisy: Tensor  # (N,) bool: training labels that are noise
    classes: tuple[str, ...]
    task: str  # its name
    notes: tuple[str, ...] = ()

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Shape of one input, (C, H, W) for images."""
        return self.train.in_shape

    @property
    def true_targets(self) -> Tensor:
        """Training labels before label noise, (N, ...)."""
        return self.clean.targets

    @property
    def outputs(self) -> int:
        """Number of outputs that a model needs."""
        return len(self.classes) or outputs_for((), self.train.targets)

    @property
    def train_groups(self) -> dict[str, SampleGroup]:
        """Training samples that are scored apart, where labels are noise.

        By the name in scores: "clean" ones; "random" ones, whose labels are noise, by
        the labels trained on; the same by their labels before, "random_true".
        """
        if not self.noisy.any():
            return {}
        own = self.train.targets
        groups = {
            CLEAN: SampleGroup(~self.noisy, own),
            RANDOM: SampleGroup(self.noisy, own),
            RANDOM_TRUE: SampleGroup(self.noisy, self.true_targets),
        }
        return {name: group for name, group in groups.items() if group.chosen.any()}

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
    """Settings of a split; every random choice follows from the seeds alone.

    With one seed, smaller training sets lie within larger ones of the same kind, the
    labels exchanged at a low noise level are also exchanged, for the same classes, at a
    higher one (but for shuffled labels), the noise of an image is one draw times the
    level, and the validation set is the same for all training sets that leave room for
    it.

    Args:
        train_samples: samples taken from the training pool; None takes as many as
            the data set recommends, or all that the other settings leave.
        train_fraction: share of the training pool to take instead, of every class
            unless `subset` says otherwise.
        subset: which samples are taken: random, the first, stratified or balanced, see
            `subsets.rank`; None is stratified with `train_fraction`, else random.
        test_fraction: share of the test set to judge on, or of the validation set that
            the data set has, taken in the same way; None for all of it.
        label_noise: fraction of the training labels, 0 to 1, that are noise.
        label_noise_kind: how they are drawn, see `label_noise.noisy_labels`.
        data_noise: standard deviation of Gaussian noise on the pixels of training
            images, which go from 0 to 1 before it.
        held_out: judge on the test set, or, which keeps it unseen while settings are
            tuned, on the validation set of the data, where there is one, or else on at
            most 5,000 unused samples of the training pool.
        validation_seed: sets a fifth of the pool, at most 5,000 samples, apart for
            validation before any are taken, whatever is judged on; None takes what is
            unused.
        seed: of the samples taken, of the labels exchanged and of the noise.

    Raises:
        SettingError: a setting out of range.
    """

    train_samples: int | None = None
    train_fraction: float | None = None
    subset: Subset | None = None
    test_fraction: float | None = None
    label_noise: float = 0.0
    label_noise_kind: LabelNoise = "other"
    data_noise: float = 0.0
    held_out: HeldOut = "test"
    validation_seed: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_bounds(vars(self), BOUNDS)
        check_choice("held_out", self.held_out, get_args(HeldOut))
        check_choice("label_noise_kind", self.label_noise_kind, get_args(LabelNoise))
        check_choice("subset", self.kind, get_args(Subset))
        if self.train_samples is not None and self.train_fraction is not None:
            raise SettingError(
                "train_samples and train_fraction both say how many samples to take, "
                f"got {self.train_samples:,} and {self.train_fraction:g}; give one."
            )

    @property
    def kind(self) -> Subset:
        """Which samples are taken."""
        unsaid: Subset = "random" if self.train_fraction is None else "stratified"
        return self.subset or unsaid

    def apply(self, dataset: Dataset) -> Split:
        """Take the samples and draw the noise.

        Raises:
            SettingError: more samples than there are, none left to judge on, or noise
                and subsets that the data set does not allow.
        """
        apart, free = self._set_apart(len(dataset.train))
        ranking = rank(self.kind, dataset.train, dataset.classes, free)
        samples = self._samples(dataset.name, ranking)
        train, positions = dataset.train, torch.arange(len(dataset.train))
        if samples < len(train):  # the whole pool keeps its order, and costs no copy
            positions = ranking.places[:samples]
            train = train.chosen(positions)
        labelled, noisy = self._labelled(train, len(dataset.classes))
        test, notes = self._judged_on(dataset, ranking, samples, apart)
        return Split(
            train=with_noise(labelled, positions, std=self.data_noise, seed=self.seed),
            test=test,
            clean=train,
            noisy=noisy,
            positions=positions,
            classes=dataset.classes,
            task=dataset.task,
            notes=(*dataset.notes, *notes, *self.noise_notes),
        )

    def _labelled(
        self, train: AbstractSamples, classes: int
    ) -> tuple[AbstractSamples, Tensor]:
        """Training samples with their noisy labels, and which of them are noise."""
        if not self.label_noise:
            return train, torch.zeros(len(train), dtype=torch.bool)
        labels, noisy = noisy_labels(
            train.targets,
            classes,
            fraction=self.label_noise,
            kind=self.label_noise_kind,
            generator=_generator("label noise", self.seed),
        )
        return train.with_targets(labels), noisy

    def _set_apart(self, pool: int) -> tuple[Tensor, Tensor]:
        """Places of the validation samples set apart, and of the others at random."""
        order = torch.randperm(pool, generator=_generator("samples", self.seed))
        if self.validation_seed is None:
            return order[:0], order
        drawn = _generator("validation", self.validation_seed)
        apart = torch.randperm(pool, generator=drawn)[: validation_samples(pool)]
        return apart, order[~torch.isin(order, apart)]

    def _samples(self, name: str, ranking: Ranking) -> int:
        if self.train_fraction is not None:
            return _share("train_fraction", self.train_fraction, ranking)
        default = DATASETS[name].spec.train_samples if name in DATASETS else None
        wanted = self.train_samples or min(default or ranking.most, ranking.most)
        if wanted > len(ranking.places):
            apart = "" if self.validation_seed is None else " not set apart"
            raise SettingError(
                f"train_samples must be at most the {len(ranking.places):,} samples in "
                f"the training pool of {name}{apart}, got {wanted:,}."
            )
        if wanted > ranking.most:
            raise SettingError(
                f"train_samples must be at most {ranking.most:,} for subset "
                f"{self.kind} of {name}, got {wanted:,}."
            )
        return wanted

    def _judged_on(
        self, dataset: Dataset, ranking: Ranking, samples: int, apart: Tensor
    ) -> tuple[AbstractSamples, tuple[str, ...]]:
        if self.held_out == "test":
            test, count = self._share_of(dataset.test, "test", dataset.classes)
            note = f"judged on {count}"
            return test, () if self.test_fraction is None else (note,)
        if dataset.validation is not None and self.validation_seed is None:
            given, count = self._share_of(
                dataset.validation, "validation", dataset.classes
            )
            return given, (f"judged on {count}, not on the test set",)
        left = apart
        if self.validation_seed is None:
            # From the end, so that training sets of all sizes are judged on the same.
            pool = len(ranking.places)
            left = ranking.places[max(samples, pool - MAX_VALIDATION) :]
            if not ranking.even:
                raise SettingError(
                    f"--held-out validation with --subset {self.kind} would judge on "
                    "the classes that are left over; set samples of all classes apart "
                    "with --validation-seed."
                )
        if not len(left):
            raise SettingError(
                f"--held-out validation needs unused training samples, but all "
                f"{samples:,} of {dataset.name} are trained on; set train_samples "
                f"below {samples:,}."
            )
        note = f"judged on {len(left):,} unused training samples, not on the test set"
        return dataset.train.chosen(left), (note,)

    def _share_of(
        self, held_out: AbstractSamples, name: HeldOut, classes: tuple[str, ...]
    ) -> tuple[AbstractSamples, str]:
        """The share of a set to judge on, and its size in words."""
        count = f"{len(held_out):,} {name} samples"
        if self.test_fraction is None:
            return held_out, count
        order = torch.randperm(len(held_out), generator=_generator(name, self.seed))
        ranking = rank(self.kind, held_out, classes, order)
        samples = _share("test_fraction", self.test_fraction, ranking)
        return held_out.chosen(ranking.places[:samples]), f"{samples:,} of {count}"

    @property
    def train_groups(self) -> tuple[str, ...]:
        """Names of the training samples that are scored apart, see `Split`."""
        if self.label_noise == 0:
            return ()
        clean = () if self.label_noise == 1 else (CLEAN,)
        return (*clean, RANDOM, RANDOM_TRUE)

    @property
    def noise_notes(self) -> tuple[str, ...]:
        """Sentences on noise in the training samples, without full stops."""
        notes = []
        if self.label_noise:
            notes.append(
                f"{100 * self.label_noise:g} % of the training labels are noise, "
                f"{WORDS[self.label_noise_kind]}; losses, errors and measures on "
                "training samples are those of the labels trained on"
            )
        if self.data_noise:
            notes.append(
                f"training images have Gaussian noise of standard deviation "
                f"{self.data_noise:g} on pixels from 0 to 1, those judged on have none"
            )
        return tuple(notes)


def validation_samples(pool: int) -> int:
    """Samples of a pool that are set apart for validation: a fifth, at most 5,000."""
    return min(MAX_VALIDATION, pool // SHARE)


def _share(name: str, share: float, ranking: Ranking) -> int:
    samples = ranking.count(share)
    if samples == 0:
        raise SettingError(
            f"{name} must leave a sample, got {share:g} of {ranking.most:,}; raise it."
        )
    return samples


def positions_of(part: str, pool: int, samples: int, *, seed: int) -> Tensor:
    """Positions of at most so many samples of a part, drawn by a seed.

    They are all in their order where there are no more than that.
    """
    if samples >= pool:
        return torch.arange(pool)
    generator = _generator(f"some of {part}", seed)
    return torch.randperm(pool, generator=generator)[:samples]


def _generator(purpose: str, seed: int) -> torch.Generator:
    """A stream of its own for each purpose, so that none disturbs another."""
    return stream(seed_named(f"{purpose} {seed}", bits=32))
