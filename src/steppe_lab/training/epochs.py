"""Epochs as batches of positions: which samples a step takes, and how many steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.seeds import stream

if TYPE_CHECKING:
    from steppe_lab.training.recipe import Recipe

MOST_EPOCHS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Epochs:
    """The epochs of a training; all follows from the seed and the epoch alone.

    An epoch takes the next samples of an endless sequence of permutations of the
    training set: all of one permutation, unless `epoch_size` says how many.

    Args:
        samples: in the training set.
        batch_size: samples of a step.
        seed: of the order.
        full_epochs: number of epochs; None where `budget` is given.
        budget: steps of the training, which end its last epoch; None for no such end.
        epoch_size: samples of an epoch; None for one permutation.
        last_batch: whether an incomplete last batch of an epoch is dropped.
        evaluate_every: epochs from one scoring to the next.

    Raises:
        SettingError: an epoch without a step, or more epochs than can be counted.
    """

    samples: int
    batch_size: int
    seed: int
    full_epochs: int | None
    budget: int | None = None
    epoch_size: int | None = None
    last_batch: Literal["keep", "drop"] = "keep"
    evaluate_every: int = 1

    def __post_init__(self) -> None:
        if self._batches_of(0) < 1:
            raise SettingError(
                f"batch_size must be at most the {self.taken} samples of an epoch "
                f"where an incomplete last batch is dropped, got {self.batch_size}; "
                "lower it, or keep the last batch."
            )
        if self.count > MOST_EPOCHS:
            raise SettingError(
                f"steps must come to at most {MOST_EPOCHS:,} epochs, got {self.budget} "
                f"steps with {self._batches_of(0)} in an epoch; lower it."
            )

    @classmethod
    def of(cls, recipe: Recipe, samples: int) -> Epochs:
        """Those of a recipe, for a number of training samples."""
        return cls(
            samples=samples,
            batch_size=recipe.batch_size,
            seed=recipe.seed,
            full_epochs=recipe.epochs if recipe.steps is None else None,
            budget=recipe.steps,
            epoch_size=recipe.epoch_size,
            last_batch=recipe.last_batch,
            evaluate_every=recipe.evaluate_every,
        )

    @property
    def taken(self) -> int:
        """Samples of an epoch, with those of a batch that is dropped."""
        return self.epoch_size or self.samples

    @cached_property
    def count(self) -> int:
        """Number of epochs; the last one may be short."""
        if self.budget is None:
            return self.full_epochs or 0
        return -(-self.budget // self._batches_of(0))

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.first_step(self.count)

    @property
    def smallest_batch(self) -> int:
        """Samples of the smallest batch."""
        last = self.taken % self.batch_size
        kept = last and self.last_batch == "keep"
        return last if kept else min(self.batch_size, self.taken)

    def first_step(self, epoch: int) -> int:
        """Number of the first step of an epoch; both are counted from 0.

        After the last epoch it is the number of steps.
        """
        step = self.step_at(epoch)
        return step if self.budget is None else min(step, self.budget)

    def step_at(self, epochs: float) -> int:
        """Number of steps in some epochs from the first on, beyond the end too."""
        return round(epochs * self._batches_of(0))

    def scored(self, epoch: int) -> bool:
        """Whether an epoch, counted from 1, ends with scores."""
        return epoch % self.evaluate_every == 0 or epoch == self.count

    def batches(self, epoch: int) -> Sequence[Tensor]:
        """Positions of the samples of each step of an epoch, counted from 0."""
        steps = self.first_step(epoch + 1) - self.first_step(epoch)
        return torch.split(self._positions(epoch), self.batch_size)[:steps]

    def _batches_of(self, epoch: int) -> int:
        """Batches of an epoch that no budget ends."""
        del epoch
        extra = self.batch_size - 1 if self.last_batch == "keep" else 0
        return (self.taken + extra) // self.batch_size

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
