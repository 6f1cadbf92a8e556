"""The two kinds of work a store holds: training a network, and analysing it.

An analysis names the training run whose network it is about, so a network is trained
once however often it is measured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator

from steppe.errors import StoreError
from steppe.landscapes.evaluate import landscape
from steppe.landscapes.subspaces import Line
from steppe.measures import MEASURES, measure
from steppe.objective import Objective
from steppe.registry import Choice
from steppe.results import Estimate, Surface
from steppe_lab import datasets
from steppe_lab.datasets import Split
from steppe_lab.studies.files import read_json, write_atomically, write_json
from steppe_lab.training import checkpoints
from steppe_lab.training.evaluation import evaluate
from steppe_lab.training.loop import train
from steppe_lab.training.recipe import Recipe

Report = Callable[[float, str], None]

DATA_DIR = "STEPPE_DATA_DIR"  # where workers find data; no part of a run's identity
CHECKPOINT = "model.safetensors"
HISTORY = "history.json"
_STATE = "training.pt"


class Analysis(BaseModel):
    """What to find out about a trained network.

    Args:
        training: id of the training run.
        measures: measures of flatness, on training samples.
        samples: at most so many training samples, the first of the split.
        line_points: points of the loss along a random line; 0 for no line.
        line_radius: the line runs from minus to plus this, in units of the norms of
            the filters.
        seed: of the measures' draws and of the line's direction.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: str
    measures: tuple[Choice, ...]
    samples: int = Field(default=2000, ge=1)
    line_points: int = Field(default=25, ge=0)
    line_radius: float = Field(default=1.0, gt=0.0)
    seed: int = Field(default=0, ge=0)

    @field_validator("measures", mode="before")
    @classmethod
    def _choices(cls, value: Any) -> Any:
        return tuple(read_measure(item) for item in value)


def read_measure(given: Any) -> Choice:
    """A measure by text or record, its settings checked and completed."""
    if isinstance(given, str):
        choice = MEASURES.parse(given)
    elif isinstance(given, Choice):
        choice = given
    else:
        choice = MEASURES.choose(given["name"], given["settings"])
    MEASURES.build(choice)  # a bad setting shows before any work
    return choice


def training_config(recipe: Recipe) -> dict[str, Any]:
    """A training run as the store keeps it."""
    return {"kind": "training", **recipe.model_dump(mode="json")}


def analysis_config(analysis: Analysis) -> dict[str, Any]:
    """An analysis as the store keeps it."""
    return {"kind": "analysis", **analysis.model_dump(mode="json")}


def work(config: dict[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    """Do one run of a store; the executors call it in their workers."""
    kinds: Mapping[str, Callable[[dict[str, Any], Path, Report], dict[str, Any]]] = {
        "training": _train,
        "analysis": _analyse,
    }
    settings = {key: value for key, value in config.items() if key != "kind"}
    return kinds[config["kind"]](settings, folder, report)


def load_split(recipe: Recipe, data_dir: Path | None = None) -> Split:
    """The samples a recipe is about; the folder may come from STEPPE_DATA_DIR."""
    if data_dir is None and DATA_DIR in os.environ:
        data_dir = Path(os.environ[DATA_DIR])
    return recipe.selection.apply(datasets.load(recipe.data.name, data_dir))


def check_ready(recipe: Recipe) -> None:
    """Read the data and make the network once, so that mistakes show before any work.

    Raises:
        DataError: data that is missing or damaged.
        SettingError: a setting of the model, or samples that the data does not have.
    """
    split = load_split(recipe)
    recipe.make_model(split.in_shape, len(split.classes))


def objective_on(
    model: torch.nn.Module,
    split: Split,
    *,
    part: Literal["train", "test"] = "train",
    samples: int,
) -> Objective:
    """Mean cross-entropy on the first samples of one part of a split."""
    inputs, targets = split.train if part == "train" else split.test
    return Objective(model, (inputs[:samples], targets[:samples]))


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
    start = time.perf_counter()
    state = folder / _STATE
    trained = train(
        recipe,
        split,
        report=report,
        resume=state.read_bytes() if state.exists() else None,
        keep=lambda kept: write_atomically(state, kept),
    )
    write_json(folder / "timing.json", {"seconds": time.perf_counter() - start})
    classes = len(split.classes)
    contents = checkpoints.to_bytes(trained.model, recipe, split.in_shape, classes)
    write_atomically(folder / CHECKPOINT, contents)
    write_json(folder / HISTORY, {"epochs": trained.history})
    state.unlink(missing_ok=True)
    best = min(trained.history, key=lambda row: (row["test_error"], row["epoch"]))
    parameters = sum(p.numel() for p in trained.model.parameters())
    return {
        "last": trained.history[-1],
        "best": best,
        "wrong": list(evaluate(trained.model, *split.test).wrong),
        "parameters": parameters,
        "train_samples": len(split.train[1]),
        "test_samples": len(split.test[1]),
        "notes": list(split.notes),
        "steppe": version("steppe"),
    }


def _analyse(settings: dict[str, Any], folder: Path, report: Report) -> dict[str, Any]:
    analysis = Analysis.model_validate(settings)
    path = folder.parent / analysis.training / CHECKPOINT
    if not path.exists():
        raise StoreError(f"{path} is missing; delete its folder and train it again.")
    checkpoint = checkpoints.load(path)
    split = load_split(checkpoint.recipe)
    objective = objective_on(checkpoint.model, split, samples=analysis.samples)
    steps = len(analysis.measures) + (analysis.line_points > 0)
    found: dict[str, Any] = {}
    names = [choice.name for choice in analysis.measures]
    keys = [c.name if names.count(c.name) == 1 else str(c) for c in analysis.measures]
    with objective.sharing():
        for done, choice in enumerate(analysis.measures):
            report(done / steps, f"measuring {choice.name}")
            kept = folder / "measures" / f"{done}-{choice.name}.json"
            if not kept.exists():
                estimate = measure(objective, [choice], seed=analysis.seed)[str(choice)]
                write_json(kept, estimate_record(estimate))
            found[keys[done]] = read_json(kept)
    result: dict[str, Any] = {"measures": found}
    if analysis.line_points:
        report(len(analysis.measures) / steps, "walking a random line")
        result["line"] = surface_record(_line(objective, analysis))
    return result


def _line(objective: Objective, analysis: Analysis) -> Surface:
    line = Line.random(objective.model, seed=analysis.seed)
    ends = (-analysis.line_radius, analysis.line_radius, analysis.line_points)
    return landscape(objective, line, x=ends)
