"""Callbacks of a training in their order, each with the reason for its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from steppe_lab.datasets import Split
from steppe_lab.training.callbacks.abstract import AbstractCallback
from steppe_lab.training.callbacks.eigenvalues import Eigenvalues
from steppe_lab.training.callbacks.history import EVENTS, History
from steppe_lab.training.callbacks.keeping import FOLDER, Checkpoints
from steppe_lab.training.callbacks.monitor import Monitor
from steppe_lab.training.callbacks.over_epochs import OverEpochs
from steppe_lab.training.callbacks.plateau import LrPlateau
from steppe_lab.training.callbacks.sample_texts import SampleTexts
from steppe_lab.training.callbacks.scores import Scores
from steppe_lab.training.callbacks.stopping import stopping_rules
from steppe_lab.training.over_epochs import over_epochs
from steppe_lab.training.plateau import plateau_of
from steppe_lab.training.tensorboard import EventWriter
from steppe_lab.training.tracking import TRACKERS, Followed

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState

TRACK = "track"  # folder of what is followed along training


def build_callbacks(
    state: TrainingState, split: Split, folder: Path | None
) -> dict[str, AbstractCallback]:
    """Callbacks that the recipe of a training asks for, by name.

    Args:
        state: before the first step.
        split: samples to train and to judge on.
        folder: of the run, where callbacks keep their files; None for none.
    """
    recipe = state.recipe
    callbacks: dict[str, AbstractCallback] = {}
    # First, so that all others know whether this epoch is the last.
    callbacks |= stopping_rules(recipe, state.task)
    # Before all that writes rows, with the next one: their settings join them.
    if schedules := over_epochs(recipe, state.epochs.count):
        callbacks["over_epochs"] = OverEpochs(schedules)
    if (rule := plateau_of(recipe.lr_schedule)) is not None:
        monitor = Monitor.of(recipe.monitor, recipe, state.task)
        callbacks["plateau"] = LrPlateau(rule, monitor, recipe, state.optimizer)
    # After rules that stop, and before all that writes scores: the last epoch has some.
    callbacks["scores"] = Scores(split)
    # With the weights that the scores of the epoch are of.
    if state.task.corpus_metrics:
        sample = split.test.chosen(torch.tensor([0]))
        callbacks["sample_texts"] = SampleTexts(sample, folder)
    if recipe.track is not None:
        followed = Followed(
            model=state.model,
            split=split,
            loss=lambda: state.loss,
            seed=recipe.data_seed,
            folder=None if folder is None else folder / TRACK,
            lr=lambda: float(state.optimizer.param_groups[0]["lr"]),
            batch_size=recipe.batch_size,
        )
        tracker = TRACKERS.build(recipe.track, followed)
        samples = min(recipe.track.settings["samples"], len(split.train))
        callbacks["eigenvalues"] = Eigenvalues(
            tracker, state.optimizer, samples / recipe.batch_size
        )
    # After the scores, whose best epoch it marks.
    writer = EventWriter(folder / EVENTS) if folder and recipe.tensorboard else None
    callbacks["history"] = History(folder, writer)
    # Last of all: the states that it writes hold those of the others.
    if recipe.checkpoint_every is not None and folder is not None:
        callbacks["checkpoints"] = Checkpoints(
            folder / FOLDER,
            split,
            every=recipe.checkpoint_every,
            states=recipe.checkpoint_optimizer,
        )
    return callbacks
