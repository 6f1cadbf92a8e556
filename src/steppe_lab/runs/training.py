"""Training runs: a network from a recipe, its history and its checkpoint."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from steppe import plots
from steppe.errors import CheckpointError, StoreError
from steppe.surfaces import Surface
from steppe.tracking.cuts import FILE as CUTS
from steppe.tracking.cuts import read_cuts
from steppe_lab.datasets import Split
from steppe_lab.datasets.recent import recent_split
from steppe_lab.progress import Progress, Report
from steppe_lab.runs.abstract import TIMING, config_of, run_kind
from steppe_lab.runs.provenance import note_start
from steppe_lab.runs.settings import TrainingSettings
from steppe_lab.store.json_files import (
    cannot,
    exists,
    write_atomically,
    write_json,
    write_record,
)
from steppe_lab.store.store import Store, run_id
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.tasks.learning import error_of_most_frequent, note_on_learning
from steppe_lab.training import checkpoints
from steppe_lab.training.build import build_model
from steppe_lab.training.callbacks import keeping, monitor
from steppe_lab.training.callbacks.order import TRACK
from steppe_lab.training.evaluation import evaluate, scores_of_trained
from steppe_lab.training.loop import KEEP_EVERY, Trained, train
from steppe_lab.training.optimizer_text import read_optimizer
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.starts import path_in, read_start, stored_start
from steppe_lab.training.state import opened
from steppe_lab.training.tracking import interval
from steppe_lab.training.trained_loss import note_on_loss

INTERVAL = "STEPPE_KEEP_EVERY"  # seconds between states to resume from
CHECKPOINT = "model.safetensors"
HISTORY = "history.json"
EIGENVALUES = "eigenvalues.png"
CUTS_DRAWN = 4  # measurements in a picture of cuts
STATE = "training.pt"  # to resume from


def recipe_of(
    settings: TrainingSettings,
    optimizer: str,
    seed: int,
    track: str = "",
    processes: int = 1,
) -> Recipe:
    """How one network is trained, by one process or several."""
    shared = set(Recipe.model_fields) & set(TrainingSettings.model_fields) - {"base"}
    pair = read_optimizer(optimizer, settings.base, settings.defaults, track)
    return Recipe(
        **settings.model_dump(include=shared), **pair, seed=seed, processes=processes
    )


@run_kind("training", Recipe)
def train_network(recipe: Recipe, folder: Path, report: Report) -> dict[str, Any]:
    """Train a network; a state that a stopped run left is gone on from."""
    split = recent_split(recipe)
    note_start(folder, recipe.device)
    trained = train(
        recipe,
        split,
        report=report,
        resume=saved_state(folder, report),
        keep=lambda contents: write_atomically(folder / STATE, contents),
        keep_every=keep_every(),
        folder=folder,
        start=stored_start(recipe, folder.parent.parent),
    )
    return stored(recipe, split, trained, folder)


def stored(
    recipe: Recipe, split: Split, trained: Trained, folder: Path, packed_with: int = 0
) -> dict[str, Any]:
    """Write the files of a training that is over, and give its result.

    Args:
        recipe: of the training.
        split: samples trained and judged on.
        trained: the network and its history.
        folder: of the run.
        packed_with: number of other networks that were trained with it.
    """
    tracked = _tracked(recipe, trained.results.get("tracked", []), folder / TRACK)
    packed = {"packed_with": packed_with} if packed_with else {}
    timing = {"seconds": trained.seconds, **packed}
    write_json(folder / TIMING, timing, survives="nothing")
    epochs = len(trained.history)
    contents = checkpoints.to_bytes(
        trained.model,
        recipe,
        split.in_shape,
        split.outputs,
        split.fingerprint,
        epochs if trained.stopped else None,
    )
    write_atomically(folder / CHECKPOINT, contents)
    write_record(folder / HISTORY, {"epochs": trained.history})
    task: AbstractTask = TASKS.build(split.task)
    last, best = trained.history[-1], trained.history[trained.best_epoch - 1]
    wrong = evaluate(trained.model, split.test, task).wrong
    unlearnt = _note_on_learning(recipe, trained.history, split, task)
    parameters = sum(p.numel() for p in trained.model.parameters())
    (folder / STATE).unlink(missing_ok=True)  # last: what fails above goes on from it
    return {
        "last": scores_of_trained(last),
        "best": scores_of_trained(best),
        "gradients": trained.gradients,
        "wrong": None if wrong is None else list(wrong),
        "parameters": parameters,
        "train_samples": len(split.train),
        "test_samples": len(split.test),
        "notes": [
            *split.notes,
            *note_on_loss(recipe, split.task, epochs),
            *task.notes,
            *monitor.notes(recipe),
        ],
        "data": split.fingerprint,
        "task": split.task,
        "headline": asdict(task.headline),
        **_on_corpus(task),
        "versions": checkpoints.versions(),
        **tracked,
        **({"stopped": trained.stopped} if trained.stopped else {}),
        **({"unlearnt": unlearnt} if unlearnt else {}),
        **{k: v for k, v in trained.results.items() if k != "tracked"},
    }


def fingerprint_of(store: Store, run: str) -> str:
    """Fingerprint of the samples that a finished network was trained on."""
    fingerprint = store.result(run).get("data")
    if not isinstance(fingerprint, str):
        raise store.damaged(run, "result.json", "no data")
    return fingerprint


def is_whole(store: Store, run: str) -> bool:
    """Whether a training is finished and its network and history are there."""
    needed = (CHECKPOINT, HISTORY)
    return store.is_finished(run) and all(
        store.artefact(run, name).exists() for name in needed
    )


def reopen_if_damaged(store: Store, run: str) -> None:
    """Forget the result of a training whose network or history is gone."""
    # In this order: one that another process ends meanwhile has its files before its
    # result, and stays.
    if store.is_finished(run) and not is_whole(store, run):
        store.reopen(run)


def trained_network(
    folder: Path, training: str, code: dict[str, str]
) -> checkpoints.Checkpoint:
    """The network of a training run, for the runs that follow it.

    Args:
        folder: of a run in the same store.
        training: id of the training run.
        code: digests of the code of the user that may run, by name.

    Raises:
        StoreError: the checkpoint is missing or of another run.
        CheckpointError: it is damaged, or names code that may not run.
    """
    return kept_network(folder, training, keeping.LAST, code)


def kept_network(
    folder: Path, training: str, at: str, code: dict[str, str]
) -> checkpoints.Checkpoint:
    """The network of a training run at one of its checkpoints.

    Args:
        folder: of a run in the same store.
        training: id of the training run.
        at: name of the checkpoint, such as best; "last" for the end of the training.
        code: digests of the code of the user that may run, by name.

    Raises:
        StoreError: the checkpoint is missing or of another run.
        CheckpointError: it is damaged, or names code that may not run.
    """
    path = kept_file(folder, training, at)
    fix = "train with --checkpoint-every to keep it, or name another checkpoint"
    if at == keeping.LAST:
        fix = f"delete the folder {path.parent} and train it again"
    if not exists(path):
        raise StoreError(f"{path} is missing; {fix}.")
    checkpoint = checkpoints.load(path, trust=code)
    if run_id(config_of(checkpoint.recipe)) != training:
        raise StoreError(f"{path} holds the network of another run; {fix}.")
    return checkpoint


def kept_file(folder: Path, training: str, at: str) -> Path:
    """The file of a checkpoint of a training run, there or not.

    Args:
        folder: of a run in the same store.
        training: id of the training run.
        at: name of the checkpoint; see `kept_network`.
    """
    path = Store(folder.parent.parent).artefact(training, CHECKPOINT)
    if at == keeping.LAST:
        return path
    return path.parent / keeping.FOLDER / f"{at}{keeping.ENDING}"


def initial_network(
    checkpoint: checkpoints.Checkpoint, folder: Path
) -> tuple[nn.Module, str] | None:
    """The network as it was before the first step of its training.

    It is the checkpoint that the run kept, or else made again: from the seed of the
    recipe, and the weights in the store that the training started from.

    Args:
        checkpoint: of the network, whose recipe may name trusted code.
        folder: of the run.

    Returns:
        The network, and the name of its file, or of the recipe; None where the weights
        that the training started from are gone.

    Raises:
        StoreError: those weights are not the file that they were.
        CheckpointError: a file that is damaged, or of another network.
    """
    recipe = checkpoint.recipe
    model = build_model(recipe, checkpoint.in_shape, checkpoint.outputs)
    kept = folder / keeping.FOLDER / f"{keeping.INITIAL}{keeping.ENDING}"
    if exists(kept):
        read_start(kept).put_into(model, recipe)
        return model, str(kept)
    store = folder.parent.parent
    if recipe.start_from and not exists(path_in(store, recipe.start_from)):
        return None
    start = stored_start(recipe, store)
    if start is not None:
        start.put_into(model, recipe)
    return model, "made again from the recipe"


def keep_every() -> float:
    """Seconds between states to go on from."""
    return float(os.environ.get(INTERVAL, KEEP_EVERY))


def saved_state(folder: Path, report: Report) -> bytes | None:
    """The state to go on from; a damaged one is set aside, and training begins anew."""
    state = folder / STATE
    if not exists(state):
        return None
    try:
        contents = state.read_bytes()
        opened(contents)
    except CheckpointError as error:
        aside = state.with_suffix(".damaged")
        state.replace(aside)
        anew = f"{state} is now {aside.name}, and training begins anew"
        report(Progress(text=f"{error}: {anew}"))
        return None
    except OSError as error:
        raise cannot("read", state, error) from error
    return contents


def _note_on_learning(
    recipe: Recipe, history: list[dict[str, float]], split: Split, task: AbstractTask
) -> str:
    chance = error_of_most_frequent(task, split.train)
    error = scores_of_trained(history[-1]).get("train_error", 0.0)
    # With L2 the losses of steps have the penalty, which no even guess has.
    highest = 0.0 if recipe.l2 else max(row["running_loss"] for row in history)
    return note_on_learning(error, chance, highest_loss=highest, classes=split.outputs)


def _on_corpus(task: AbstractTask) -> dict[str, Any]:
    """The corpus metrics of a task, and how they are computed; nothing without any."""
    if not task.corpus_metrics:
        return {}
    return {
        "corpus_metrics": [asdict(metric) for metric in task.corpus_metrics],
        "signatures": dict(task.signatures),
        **({"decoding": dict(task.decoding)} if task.decoding else {}),
    }


def _tracked(
    recipe: Recipe, rows: list[dict[str, float]], folder: Path
) -> dict[str, Any]:
    """Draw the eigenvalues that were tracked, and give the last ones."""
    if recipe.track is None:
        return {}
    values = [
        [value for name, value in row.items() if name.startswith("top_K_e/")]
        for row in rows
    ]
    _, unit = interval(recipe.track.settings["every"])
    figure = plots.eigenvalues([row[unit] for row in rows], values, xlabel=unit)
    write_atomically(folder / EIGENVALUES, plots.save_png(figure))
    if (folder / CUTS).is_file():
        for index, lines in read_cuts(folder).items():
            write_atomically(folder / f"cut_{index}.png", _cuts_drawn(lines, unit))
    tracked = {
        "eigenvalues": values[-1],
        "measurements": len(rows),
        "products": sum(row["products"] for row in rows),
    }
    return {"tracked": tracked}


def _cuts_drawn(lines: list[Surface], unit: str) -> bytes:
    """A picture of the cuts along one direction at a few measurements."""
    count = min(len(lines), CUTS_DRAWN)
    steps = max(count - 1, 1)
    chosen = [lines[round(i * (len(lines) - 1) / steps)] for i in range(count)]
    named = {f"{unit} {line.details[unit]}": [line] for line in chosen}
    return plots.save_png(plots.lines(named, xlabel=chosen[0].axes[0]))
