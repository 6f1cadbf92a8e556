"""Epochs as batches of positions: which samples a step takes, and how many steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from steppe.seeds import stream

if TYPE_CHECKING:
    from steppe_lab.training.recipe import Recipe


@dataclass(frozen=True)
class Epochs:
    """The epochs of a training; all follows from the seed and the epoch alone.

    Args:
        epochs: number of them.
        samples: in the training set.
        batch_size: samples of a step.
        seed: of the order.
    """

    epochs: int
    samples: int
    batch_size: int
    seed: int

    @classmethod
    def of(cls, recipe: Recipe, samples: int) -> Epochs:
        """Those of a recipe, for a number of training samples."""
        return cls(recipe.epochs, samples, recipe.batch_size, recipe.seed)

    @property
    def steps_per_epoch(self) -> int:
        """Steps that take in every training sample once."""
        return -(-self.samples // self.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the training."""
        return self.epochs * self.steps_per_epoch

    def first_step(self, epoch: int) -> int:
        """Number of the first step of an epoch; both are counted from 0."""
        return epoch * self.steps_per_epoch

    def batches(self, epoch: int) -> tuple[Tensor, ...]:
        """Positions of the samples of each step of an epoch, counted from 0."""
        order = torch.randperm(self.samples, generator=stream(self.seed, epoch))
        return torch.split(order, self.batch_size)
