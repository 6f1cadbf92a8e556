"""Callbacks of a training in their order, each with the reason for its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steppe_lab.datasets import Split
from steppe_lab.training.callbacks.abstract import AbstractCallback
from steppe_lab.training.callbacks.eigenvalues import Eigenvalues
from steppe_lab.training.tracking import TRACKERS

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState


def build_callbacks(
    state: TrainingState, split: Split, folder: Path | None
) -> dict[str, AbstractCallback]:
    """Callbacks that the recipe of a training asks for, by name.

    Args:
        state: before the first step.
        split: samples to train and to judge on.
        folder: where callbacks keep their files; None for none.
    """
    recipe = state.recipe
    callbacks: dict[str, AbstractCallback] = {}
    if recipe.track is not None:
        seed = recipe.data_seed
        tracker = TRACKERS.build(recipe.track, state.model, split, seed, folder)
        samples = min(recipe.track.settings["samples"], len(split.train))
        callbacks["eigenvalues"] = Eigenvalues(
            tracker, state.optimizer, samples / recipe.batch_size
        )
    return callbacks
