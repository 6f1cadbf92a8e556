"""Longer trainings that begin where shorter ones ended.

The last state of a training is that of a longer one after as many epochs, bit for bit,
where nothing in the recipe depends on the length: it is then put where the longer
training looks for a state to resume from, and no epoch is trained twice.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from steppe.errors import CheckpointError
from steppe.optimizers import OPTIMIZERS
from steppe.registry.settings_text import built
from steppe_lab.runs.abstract import config_of
from steppe_lab.runs.training import STATE
from steppe_lab.store.json_files import cannot, exists, write_atomically
from steppe_lab.store.store import Store, run_id
from steppe_lab.training.build import build_lr_schedule
from steppe_lab.training.callbacks.keeping import FOLDER, HALF, LAST, STATE_ENDING
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.over_epochs import over_epochs
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.state import opened, sealed


def why_not_longer(store: Store, before: Recipe, after: Recipe) -> str:
    """Why a longer training cannot begin where a shorter one ended; "" where it can.

    Args:
        store: that holds the shorter one, finished.
        before: its recipe.
        after: that of the longer one.

    Returns:
        A clause without a full stop.
    """
    run = run_id(config_of(before))
    if before.model_copy(update={"epochs": after.epochs}) != after:
        return "the two differ in more than the epochs"
    if before.track is not None:
        return "files of what is followed along a training cannot be gone on with"
    if before.epochs % before.evaluate_every:
        return "its last epoch was scored, which the longer training would not do"
    if not exists(_last(store, run)):
        return (
            "its last state was not kept, as checkpoint_every: 0 and "
            "checkpoint_optimizer: true in base do"
        )
    samples = int(store.result(run)["train_samples"])
    depends = _dependent(before, after, samples)
    return f"{depends} depends on the length of the training" if depends else ""


def lengthen(store: Store, before: Recipe, after: Recipe) -> None:
    """Put the last state of a training where a longer one resumes from.

    Checkpoints along the training are linked, but for that of half time, which is at
    another time now. A longer training that has begun stays as it is.

    Args:
        store: that holds the shorter one, finished.
        before: its recipe.
        after: that of the longer one, for which `why_not_longer` has no reason.

    Raises:
        CheckpointError: the state is damaged.
        StoreError: nothing can be written.
    """
    run, longer = (run_id(config_of(each)) for each in (before, after))
    state = store.artefact(longer, STATE)
    if exists(state) or store.is_finished(longer):
        return
    last = _last(store, run)
    try:
        file = io.BytesIO(opened(last.read_bytes()))
        content = torch.load(file, weights_only=True, map_location="cpu")
    except CheckpointError as error:
        raise CheckpointError(
            f"{last} cannot be gone on from ({error}); delete the folder of the run "
            "and train it again."
        ) from error
    except OSError as error:
        raise cannot("read", last, error) from error
    content["recipe"] = after.model_dump_json()
    anew = io.BytesIO()
    torch.save(content, anew)
    for path in sorted(last.parent.iterdir()):
        if not path.name.startswith((f"{HALF}.", f"{LAST}.", ".")):
            _link(path, store.artefact(longer, f"{FOLDER}/{path.name}"))
    # Last: a stop before it leaves a longer training that begins anew.
    write_atomically(state, sealed(anew.getvalue()))


def _last(store: Store, run: str) -> Path:
    return store.artefact(run, f"{FOLDER}/{LAST}{STATE_ENDING}")


def _link(path: Path, to: Path) -> None:
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        if exists(to):
            return
        try:
            os.link(path, to)
        except OSError:  # a file system without links
            shutil.copyfile(path, to)
    except OSError as error:
        raise cannot("write", to, error) from error


def _dependent(before: Recipe, after: Recipe, samples: int) -> str:
    """The first setting whose values so far depend on the length; "" for none."""
    lengths = [Epochs.of(each, samples) for each in (before, after)]
    rates = [build_lr_schedule(each, samples) for each in (before, after)]
    if _differ(rates[0], rates[1], lengths[0].steps):
        return f"lr_schedule {before.lr_schedule}"
    changing = [over_epochs(each, each.epochs) for each in (before, after)]
    for name, schedule in changing[0].items():
        if _differ(schedule, changing[1][name], before.epochs):
            return f"{name} over epochs"
    if before.optimizer is None:
        return ""
    kinds = OPTIMIZERS[before.optimizer.name].settings()
    known = [{"steps": each.steps, "max_lr": 1.0, "seed": 0} for each in lengths]
    for name, value in before.optimizer.settings.items():
        short, long = (built(value, kinds[name].annotation, each) for each in known)
        # Parts are equal where their settings are, the length among them.
        if short != long:
            return f"{name}={value} of {before.optimizer.name}"
    return ""


def _differ(one: Callable[[int], Any], other: Callable[[int], Any], count: int) -> bool:
    return any(one(step) != other(step) for step in range(count))
