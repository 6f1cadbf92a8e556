"""Costs of runs, which the time that is left is estimated by."""

from __future__ import annotations

from steppe.optimizers import OPTIMIZERS
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.recipe import Recipe


def forwards(recipe: Recipe, train: int, test: int) -> float:
    """Samples passed forward in a training; a gradient counts as three passes.

    Args:
        recipe: of the training.
        train: number of training samples.
        test: number of samples that are judged on.
    """
    method = recipe.optimizer
    gradients = OPTIMIZERS[method.name].spec.grad_evals if method else 1.0
    epochs = Epochs.of(recipe, train)
    scored = sum(epochs.scored(epoch + 1) for epoch in range(epochs.count))
    rows = epochs.count * epochs.taken
    return 3 * gradients * rows + scored * (train + test)
