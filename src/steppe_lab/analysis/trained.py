"""One network trained into a store: by this process, or by several together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from steppe.errors import StoreError
from steppe_lab.analysis.starts import with_start
from steppe_lab.datasets.loading import load_split
from steppe_lab.execution.local import run_local
from steppe_lab.progress import Report
from steppe_lab.runs import WORK
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.runs.training import (
    CHECKPOINT,
    fingerprint_of,
    is_whole,
    recipe_of,
    reopen_if_damaged,
)
from steppe_lab.store.store import Store, run_id
from steppe_lab.training.launch import launch
from steppe_lab.training.loop import train
from steppe_lab.training.processes import take_gpu
from steppe_lab.training.readiness import check_ready, check_same_data
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.starts import stored_start


@dataclass(frozen=True)
class TrainedRun:
    """A finished training run."""

    run: str  # id in the store
    checkpoint: Path
    result: dict[str, Any]


def train_one(
    settings: TrainSettings,
    store: Store,
    *,
    progress: Report | None = None,
) -> TrainedRun:
    """Train a network, unless the store has it.

    Of several processes that `torchrun` started this is the first one, which claims the
    run, writes it and reports; the others call `train_along`.

    Raises:
        SettingError: a setting that has no meaning.
        CheckpointError: weights to start from that are missing or do not fit.
        DataError: data that is missing or damaged.
        StoreError: training failed, and the reason is given; or it goes on elsewhere
            while other processes wait for this one.
    """
    recipe, processes = _recipe_here(settings, store), launch().count
    run = run_id(config_of(recipe))
    trained = is_whole(store, run)
    present = None
    if not trained:
        start = stored_start(recipe, store.root, settings.start_from)
        present = check_ready(recipe, start)
    elif recipe.reads_files:
        present = load_split(recipe)
    if present is not None and store.is_finished(run):
        before = [fingerprint_of(store, run)]
        check_same_data(present.fingerprint, before, data=recipe.data.name)
    store.add(config_of(recipe))
    reopen_if_damaged(store, run)
    if processes > 1 and store.status(run) == "running":
        raise StoreError(
            f"run {run} is being trained by another command; wait for its end."
        )
    outcome = run_local(
        store,
        [run],
        WORK,
        progress=progress,
        # The others end with a process that dies: nobody would meet a second try.
        max_attempts=2 if processes == 1 else 1,
        trust=recipe.code,
    )
    if run in outcome.failed:
        raise StoreError(f"training failed: {outcome.failed[run].reason}")
    return TrainedRun(run, store.artefact(run, CHECKPOINT), store.result(run))


def train_along(settings: TrainSettings, store: Store) -> None:
    """Take part in a training that the first of several processes leads.

    Raises:
        SettingError: a setting that has no meaning.
        DataError: data that is missing or damaged.
        LostProcessError: another process ended or failed.
    """
    take_gpu(settings.device, launch())
    recipe = _recipe_here(settings, store)
    if is_whole(store, run_id(config_of(recipe))):
        return
    # As in the worker of the first process: rounding depends on the threads.
    torch.set_num_threads(1)
    train(recipe, load_split(recipe), start=stored_start(recipe, store.root))


def _recipe_here(settings: TrainSettings, store: Store) -> Recipe:
    """How a network is trained by the processes that this one is of."""
    settings = with_start(settings, store)
    return recipe_of(
        settings,
        settings.optimizer,
        settings.seed,
        settings.track,
        launch().count,
    )
