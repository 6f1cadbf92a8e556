"""Costs of runs, which the time that is left is estimated by."""

from __future__ import annotations

from steppe.optimizers import OPTIMIZERS
from steppe_lab.datasets.abstract import size_of
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


def published_samples(recipe: Recipe) -> tuple[int, int] | None:
    """Training and test samples of a recipe, about, as its data set is published.

    Args:
        recipe: of the training; no file is read.

    Returns:
        None where the published size is not known.
    """
    size = size_of(recipe.data)
    if size is None:
        return None
    train = recipe.train_samples or size.train
    if recipe.train_fraction is not None:
        train = round(recipe.train_fraction * size.train)
    share = 1.0 if recipe.test_fraction is None else recipe.test_fraction
    return max(min(train, size.train), 1), max(round(share * size.test), 1)
