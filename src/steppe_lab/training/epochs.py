"""Epochs as batches of positions: which samples a step takes, and how many steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.optimizers import OPTIMIZERS
from steppe.registry.registry import Choice
from steppe.schedules import StepSchedule
from steppe.seeds import seed_named, stream
from steppe_lab.datasets.samples import AbstractSamples, Sequences
from steppe_lab.models.carrying import carries_state
from steppe_lab.training.over_epochs import over_epochs

if TYPE_CHECKING:
    from steppe_lab.training.recipe import Recipe

MOST_EPOCHS = 1_000_000
POOL = 100  # batches whose samples are sorted by length together


def batches_per_step(method: Choice | None) -> int:
    """Batches that a step of a method takes: one for each pass where it asks so."""
    if method is None or not method.settings.get("fresh_batches"):
        return 1
    counted = OPTIMIZERS[method.name].spec.separate_passes
    return max(int(method.settings[counted]), 1) if counted else 1


def lengths_for(recipe: Recipe, samples: AbstractSamples) -> Tensor | None:
    """Lengths that a recipe makes batches by; None for random batches.

    Raises:
        SettingError: samples that are no sequences, or pieces of one text.
    """
    if recipe.batch_by == "random":
        return None
    if not isinstance(samples, Sequences):
        raise SettingError(
            "batch_by length needs samples that are sequences, got inputs of shape "
            f"{samples.in_shape}; leave it out."
        )
    if carries_state(recipe.model):
        raise SettingError(
            f"batch_by length would part the text that {recipe.model.name} reads on "
            "from batch to batch; leave it out."
        )
    return samples.lengths


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """The epochs of a training; all follows from the seed and the epoch alone.

    An epoch takes the next samples of an endless sequence of permutations of the
    training set: all of one permutation, unless `epoch_size` says how many. Epochs and
    steps are counted from 0.

    Where lengths are known, an epoch has batches of samples of nearly one length, which
    have little padding: its full batches are parted into pools, the samples of each
    pool are sorted by their lengths, and the batches come in random order. A smaller
    last batch stays what it is.

    Args:
        samples: in the training set.
        batch_size: samples of a batch; a function of the epoch where it changes.
        seed: of the order.
        full_epochs: number of epochs; None where `budget` is given.
        budget: steps of the training, which end its last epoch; None for no such end.
        epoch_size: samples of an epoch; None for one permutation.
        last_batch: whether an incomplete last batch of an epoch is dropped.
        evaluate_every: epochs from one scoring to the next.
        batches_per_step: batches that a step takes; those of an epoch that are left
            over belong to the first step of the next one.
        contiguous: the samples are pieces of a text, and row b of a batch is the piece
            after row b of the batch before; nothing is shuffled.
        lengths: of the samples, (N,), for batches by length; None for random ones.

    Raises:
        SettingError: an epoch without a batch, or more epochs than can be counted.
    """

    samples: int
    batch_size: int | StepSchedule
    seed: int
    full_epochs: int | None
    budget: int | None = None
    epoch_size: int | None = None
    last_batch: Literal["keep", "drop"] = "keep"
    evaluate_every: int = 1
    batches_per_step: int = 1
    contiguous: bool = False
    lengths: Tensor | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if self.count > MOST_EPOCHS:
            raise SettingError(
                f"steps must come to at most {MOST_EPOCHS:,} epochs, got {self.budget} "
                f"steps with {self._batches_of(0)} batches in an epoch; lower it."
            )

    @classmethod
    def of(cls, recipe: Recipe, samples: int, lengths: Tensor | None = None) -> Epochs:
        """Those of a recipe, for a number of training samples.

        Args:
            recipe: settings of the training.
            samples: in the training set.
            lengths: from `lengths_for`; numbers of steps do not depend on them.
        """
        full_epochs = recipe.epochs if recipe.steps is None else None
        changing = over_epochs(recipe, full_epochs).get("batch_size")
        return cls(
            samples=samples,
            batch_size=recipe.batch_size if changing is None else changing,
            seed=recipe.seed,
            full_epochs=full_epochs,
            budget=recipe.steps,
            epoch_size=recipe.epoch_size,
            last_batch=recipe.last_batch,
            evaluate_every=recipe.evaluate_every,
            batches_per_step=batches_per_step(recipe.optimizer),
            contiguous=carries_state(recipe.model),
            lengths=lengths,
        )

    @property
    def taken(self) -> int:
        """Samples of an epoch, with those of a batch that is dropped."""
        return self.epoch_size or self.samples

    @property
    def count(self) -> int:
        """Number of epochs; the last one may be short."""
        return len(self._batches_before) - 1

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.first_step(self.count)

    @property
    def smallest_batch(self) -> int:
        """Samples of the smallest batch."""
        changes = callable(self.batch_size)
        sizes = {self.size_of(each) for each in range(self.count if changes else 1)}
        if self.last_batch == "drop":
            return min(sizes)
        # Batches of one step are parted again, into equal shares.
        several = self.batches_per_step
        lasts = ((size, self.taken % size or size) for size in sizes)
        return min(((several - 1) * s + min(s, last)) // several for s, last in lasts)

    def size_of(self, epoch: int) -> int:
        """Samples of a batch in an epoch."""
        size = self.batch_size
        return int(size(epoch)) if callable(size) else size

    def first_step(self, epoch: int) -> int:
        """Number of the first step of an epoch; after the last one, that of steps."""
        step = self.step_at(epoch)
        return step if self.budget is None else min(step, self.budget)

    def step_at(self, epochs: float) -> int:
        """Number of steps in some epochs from the first on, beyond the end too."""
        whole = min(int(epochs), self.count)
        beyond = (epochs - whole) * self._batches_of(whole)
        return round(self._batches_before[whole] + beyond) // self.batches_per_step

    def scored(self, epoch: int) -> bool:
        """Whether an epoch, here counted from 1, ends with scores."""
        return epoch % self.evaluate_every == 0 or epoch == self.count

    def batches(self, epoch: int) -> Sequence[Tensor]:
        """Positions of the samples of each step of an epoch."""
        steps = self.first_step(epoch + 1) - self.first_step(epoch)
        several = self.batches_per_step
        if several == 1:
            return self._split(epoch)[:steps]
        left = self._batches_before[epoch] % several  # of the epoch before
        own = [*(self._split(epoch - 1)[-left:] if left else ()), *self._split(epoch)]
        return [torch.cat(own[n * several : (n + 1) * several]) for n in range(steps)]

    @cached_property
    def _batches_before(self) -> Sequence[int]:
        """Batches before each epoch and after the last one, which no budget cuts."""
        if not callable(self.batch_size):  # nothing to list for a million of epochs
            each = self._batches_of(0)
            count = self.full_epochs or -(-self._budget_of_batches // each)
            return range(0, each * count + 1, each)
        before = [0]
        while len(before) <= (self.full_epochs or MOST_EPOCHS + 1):
            if self.budget and before[-1] >= self._budget_of_batches:
                break
            before.append(before[-1] + self._batches_of(len(before) - 1))
        return before

    @property
    def _budget_of_batches(self) -> int:
        return (self.budget or 0) * self.batches_per_step

    def _batches_of(self, epoch: int) -> int:
        size = self.size_of(epoch)
        if self.last_batch == "keep":
            return self._enough(-(-self.taken // size))
        if size > self.taken:
            raise SettingError(
                f"batch_size must be at most the {self.taken} samples of an epoch "
                f"where an incomplete last batch is dropped, got {size}; lower it, or "
                "keep the last batch."
            )
        return self._enough(self.taken // size)

    def _enough(self, batches: int) -> int:
        if batches < self.batches_per_step:
            raise SettingError(
                f"an epoch must have the {self.batches_per_step} fresh batches of a "
                f"step, got {batches}; lower batch_size, or leave out fresh_batches."
            )
        return batches

    def _split(self, epoch: int) -> Sequence[Tensor]:
        """Positions of the samples of each batch of an epoch that is not cut."""
        if self.contiguous:
            return self._streams(epoch)
        batches = torch.split(self._positions(epoch), self.size_of(epoch))
        own = batches[: self._batches_of(epoch)]
        return own if self.lengths is None else self._by_length(own, epoch)

    def _by_length(self, batches: Sequence[Tensor], epoch: int) -> list[Tensor]:
        """The same samples dealt to batches of the same sizes by their lengths."""
        assert self.lengths is not None
        size = self.size_of(epoch)
        full = [rows for rows in batches if len(rows) == size]
        dealt: list[Tensor] = []
        for start in range(0, len(full), POOL):
            rows = torch.cat(full[start : start + POOL])
            order = self.lengths[rows].argsort(stable=True)
            dealt += torch.split(rows[order], size)
        draws = stream(seed_named(f"batches by length {self.seed}", bits=32), epoch)
        places = torch.randperm(len(dealt), generator=draws).tolist()
        return [*(dealt[place] for place in places), *batches[len(full) :]]

    def _streams(self, epoch: int) -> Sequence[Tensor]:
        """The pieces of as many streams side by side as a batch has rows."""
        size = self.size_of(epoch)
        dropped = self.samples % size if self.last_batch == "drop" else 0
        streams = torch.arange(self.samples - dropped).tensor_split(size)
        # The first ones may be one piece longer: they alone are in the last batch.
        return [
            torch.stack([each[number] for each in streams if number < len(each)])
            for number in range(len(streams[0]))
        ]

    def _positions(self, epoch: int) -> Tensor:
        """The next samples of the endless sequence of permutations."""
        start, end = epoch * self.taken, (epoch + 1) * self.taken
        first, last = start // self.samples, (end - 1) // self.samples
        orders = [
            torch.randperm(self.samples, generator=stream(self.seed, number))
            for number in range(first, last + 1)
        ]
        place = start - first * self.samples
        return torch.cat(orders)[place : place + self.taken]
