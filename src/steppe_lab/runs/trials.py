"""The two kinds of work a store holds: training a network, and analysing it.

An analysis names the training run whose network it is about, so a network is trained
once however often it is measured.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import (
    ValidationError,
)
from torch import nn

from steppe import plots
from steppe.errors import (
    CheckpointError,
    DataError,
    SettingError,
    SteppeError,
    StoreError,
)
from steppe.landscapes.evaluate import landscape
from steppe.landscapes.line import Line
from steppe.measures import build, measure, refused
from steppe.objective import Objective
from steppe.registry.registry import Choice, is_code, one_line
from steppe.results import Estimate, Surface
from steppe_lab import datasets
from steppe_lab.datasets import Split
from steppe_lab.datasets.samples import on_device
from steppe_lab.runs.records import Analysis, Scoring, training_config
from steppe_lab.store.json_files import (
    cannot,
    exists,
    read_record,
    write_atomically,
    write_json,
    write_record,
)
from steppe_lab.store.store import Store, run_id
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.training import checkpoints
from steppe_lab.training.evaluation import evaluate, scores_of_trained
from steppe_lab.training.loop import KEEP_EVERY, train
from steppe_lab.training.recipe import BUILD, Recipe
from steppe_lab.training.seeding import seeded
from steppe_lab.training.states import opened
from steppe_lab.training.tracking import interval

Report = Callable[[float, str], None]

DATA_DIR = "STEPPE_DATA_DIR"  # where workers find data; no part of a run's identity
INTERVAL = "STEPPE_KEEP_EVERY"  # seconds between states to resume from
CHECKPOINT = "model.safetensors"
HISTORY = "history.json"
TRACK = "track"  # folder of what was followed along training
EIGENVALUES = "eigenvalues.png"
_STATE = "training.pt"
ROWS = 256  # of a batch that is measured on


def work(config: dict[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Do one run of a store; the executors call it in their workers."""
    kinds: Mapping[str, Callable[[dict[str, Any], Path, Report], dict[str, Any]]] = {
        "training": _train,
        "analysis": _analyse,
        "scoring": _score,
    }
    settings = {key: value for key, value in config.items() if key != "kind"}
    try:
        return kinds[config["kind"]](settings, folder, report)
    except ValidationError as error:  # such as code of the user that was edited since
        raise SettingError(f"{checkpoints.reason_of(error)}.") from error


def load_split(recipe: Recipe, data_dir: Path | None = None) -> Split:
    """The samples a recipe is about; the folder may come from STEPPE_DATA_DIR."""
    if data_dir is None and DATA_DIR in os.environ:
        data_dir = Path(os.environ[DATA_DIR])
    with seeded(0):
        dataset = datasets.load(recipe.data, data_dir)
    return recipe.selection.apply(dataset)


def check_ready(recipe: Recipe) -> Split:
    """Read the data and try the network once, so that mistakes show before any work.

    Raises:
        DataError: data that is missing or damaged.
        SettingError: a setting of the model, samples that the data does not have, or
            a network that is none or cannot be trained on them.
    """
    recipe.check()
    split = load_split(recipe)
    classes = len(split.classes)
    task: AbstractTask = TASKS.build(split.task)
    rows = min(2, len(split.train))
    model = recipe.make_model(split.in_shape, classes)
    name = f"model {recipe.model.name}"
    if not any(True for _ in model.parameters()):
        raise SettingError(f"{name} has no parameters to train; {BUILD}.")
    try:
        with torch.no_grad():
            inputs, _ = on_device(split.train.batch(slice(0, rows)), recipe.device)
            outputs = model.eval()(inputs)
    except (Exception, SystemExit) as error:
        if not is_code(recipe.model.name):
            raise
        raise SettingError(
            f"{name} cannot be called with inputs of shape {split.in_shape} "
            f"({one_line(error)}); {BUILD}."
        ) from error
    wrong = task.check_outputs(outputs, rows, classes)
    if wrong:
        raise SettingError(f"{name} {wrong}; {BUILD}.")
    _check_last_batch(recipe, model, len(split.train))
    recipe.check(len(split.train), model)
    return split


def check_same_data(now: str, before: Iterable[str], *, data: str) -> None:
    """Refuse data that is not what earlier results came from.

    Args:
        now: fingerprint of the split at hand.
        before: fingerprints of the splits that networks were trained on.
        data: name of the data set, for the sentence.

    Raises:
        DataError: one of them is another.
    """
    for then in before:
        if then != now:
            raise DataError(
                f"{data} is not the data that was trained on (SHA-256 {now[:8]} now, "
                f"{then[:8]} then); name another --out, or give the data it was "
                "trained on."
            )


def fingerprint_of(store: Store, run: str) -> str:
    """Fingerprint of the samples that a finished network was trained on."""
    found = store.result(run).get("data")
    if not isinstance(found, str):
        raise store.damaged(run, "result.json", "no data")
    return found


def is_whole(store: Store, run: str) -> bool:
    """Whether a training is finished and its network and history are there."""
    needed = (CHECKPOINT, HISTORY)
    return store.is_finished(run) and all(
        store.artefact(run, name).exists() for name in needed
    )


def _check_last_batch(recipe: Recipe, model: nn.Module, samples: int) -> None:
    lonely = recipe.batch_size == 1 or samples % recipe.batch_size == 1
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if lonely and any(isinstance(module, norms) for module in model.modules()):
        raise SettingError(
            f"batch norm needs 2 samples in every batch, got one of 1 with "
            f"batch_size {recipe.batch_size} and {samples} training samples; change "
            "either by one."
        )


def objective_on(
    model: nn.Module,
    split: Split,
    *,
    part: Literal["train", "test"] = "train",
    samples: int,
    seed: int,
    mode: Literal["eval", "train"] = "eval",
) -> Objective:
    """Mean loss of the task on some samples of one part of a split, drawn by a seed."""
    task: AbstractTask = TASKS.build(split.task)
    batches = split.some(part, samples, seed=seed).batches(ROWS)
    return Objective(model, batches, task.loss_name, mode=mode)


def estimate_record(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON."""
    return {**asdict(estimate), "details": dict(estimate.details)}


def surface_record(surface: Surface) -> dict[str, Any]:
    """A line of the landscape as JSON."""
    return {
        "x": list(surface.x),
        "loss": surface.loss.tolist(),
        "stderr": surface.stderr.tolist(),
        "samples": surface.samples,
        "details": dict(surface.details),
    }


def _train(settings: dict[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    recipe = Recipe.model_validate(settings)
    split = load_split(recipe)
    state = folder / _STATE
    trained = train(
        recipe,
        split,
        report=report,
        resume=_kept(state, report),
        keep=lambda kept: write_atomically(state, kept),
        keep_every=float(os.environ.get(INTERVAL, KEEP_EVERY)),
        folder=folder / TRACK,
    )
    tracked = _tracked(recipe, trained.tracked, folder / TRACK)
    write_json(folder / "timing.json", {"seconds": trained.seconds})
    contents = checkpoints.to_bytes(
        trained.model, recipe, split.in_shape, len(split.classes), split.fingerprint
    )
    write_atomically(folder / CHECKPOINT, contents)
    write_record(folder / HISTORY, {"epochs": trained.history})
    task: AbstractTask = TASKS.build(split.task)
    headline = f"test_{task.headline.name}"
    sign = 1 if task.headline.better == "smaller" else -1
    scored = [scores_of_trained(row) for row in trained.history if headline in row]
    best = min(scored, key=lambda row: (sign * row[headline], row["epoch"]))
    wrong = evaluate(trained.model, split.test, task).wrong
    parameters = sum(p.numel() for p in trained.model.parameters())
    state.unlink(missing_ok=True)  # last: what fails above goes on from it
    return {
        "last": scored[-1],
        "best": best,
        "gradients": trained.gradients,
        "wrong": None if wrong is None else list(wrong),
        "parameters": parameters,
        "train_samples": len(split.train),
        "test_samples": len(split.test),
        "notes": list(split.notes),
        "data": split.fingerprint,
        "task": split.task,
        "headline": asdict(task.headline),
        "versions": checkpoints.versions(),
        **tracked,
    }


def _kept(state: Path, report: Report) -> bytes | None:
    """The state to go on from; a damaged one is set aside, and training begins anew."""
    if not exists(state):
        return None
    try:
        kept = state.read_bytes()
        opened(kept)
    except CheckpointError as error:
        aside = state.with_suffix(".damaged")
        state.replace(aside)
        report(0.0, f"{error}: {state} is now {aside.name}, and training begins anew")
        return None
    except OSError as error:
        raise cannot("read", state, error) from error
    return kept


def _is_whole_record(path: Path) -> bool:
    try:
        read_record(path)
    except StoreError:
        return False
    return True


def _tracked(
    recipe: Recipe, rows: list[dict[str, float]], folder: Path
) -> dict[str, Any]:
    """Draw what was followed, and say where it ended."""
    if recipe.track is None:
        return {}
    values = [
        [value for name, value in row.items() if name.startswith("top_K_e/")]
        for row in rows
    ]
    _, unit = interval(recipe.track.settings["every"])
    figure = plots.eigenvalues([row[unit] for row in rows], values, xlabel=unit)
    write_atomically(folder / EIGENVALUES, plots.save_png(figure))
    found = {
        "eigenvalues": values[-1],
        "measurements": len(rows),
        "products": sum(row["products"] for row in rows),
    }
    return {"tracked": found}


def _analyse(settings: dict[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    analysis = Analysis.model_validate(settings)
    checkpoint = _trained(folder, analysis.training, analysis.code)
    recipe = checkpoint.recipe
    split = load_split(recipe)
    check_same_data(split.fingerprint, [checkpoint.data], data=recipe.data.name)
    objective = objective_on(
        checkpoint.model, split, samples=analysis.samples, seed=recipe.data_seed
    )
    steps = len(analysis.measures) + (analysis.line_points > 0)
    found: dict[str, Any] = {}
    names = [choice.name for choice in analysis.measures]
    keys = [c.name if names.count(c.name) == 1 else str(c) for c in analysis.measures]
    with objective.sharing():
        for done, choice in enumerate(analysis.measures):
            report(done / steps, f"measuring {choice.name}")
            kept = folder / "measures" / f"{done}-{choice.name}.json"
            if not _is_whole_record(kept):
                estimate = _estimate(objective, choice, analysis.seed)
                write_record(kept, estimate_record(estimate))
            found[keys[done]] = read_record(kept)
    result: dict[str, Any] = {"measures": found}
    if analysis.line_points:
        report(len(analysis.measures) / steps, "walking a random line")
        result["line"] = surface_record(_line(objective, analysis))
    return result


def _estimate(objective: Objective, choice: Choice, seed: int) -> Estimate:
    """A measurement; one that the network does not allow says why."""
    try:
        return measure(objective, [choice], seed=seed)[str(choice)]
    except SteppeError as error:
        return refused(build(choice), error)


def _score(settings: dict[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    scoring = Scoring.model_validate(settings)
    checkpoint = _trained(folder, scoring.training, scoring.code)
    recipe = checkpoint.recipe
    check_same_data(
        load_split(recipe).fingerprint, [checkpoint.data], data=recipe.data.name
    )
    report(0.0, "scoring on the test set")
    split = load_split(recipe.model_copy(update={"held_out": "test"}))
    score = evaluate(checkpoint.model, split.test, TASKS.build(split.task))
    return {**score.metrics, "samples": score.samples}


def _trained(
    folder: Path, training: str, code: dict[str, str]
) -> checkpoints.Checkpoint:
    store = Store(folder.parent.parent)
    path = store.artefact(training, CHECKPOINT)
    fix = f"delete the folder {path.parent} and train it again"
    if not exists(path):
        raise StoreError(f"{path} is missing; {fix}.")
    checkpoint = checkpoints.load(path, trust=code)
    if run_id(training_config(checkpoint.recipe)) != training:
        raise StoreError(f"{path} holds the network of another run; {fix}.")
    return checkpoint


def _line(objective: Objective, analysis: Analysis) -> Surface:
    line = Line.random(objective.model, seed=analysis.seed)
    ends = (-analysis.line_radius, analysis.line_radius, analysis.line_points)
    return landscape(objective, line, x=ends)
