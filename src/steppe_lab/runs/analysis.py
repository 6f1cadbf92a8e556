"""Analysis runs: the flatness of a trained network, and its loss along a line.

An analysis names the training run whose network it is about, so that a network is
trained once however often it is measured.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)
from torch import nn

from steppe.errors import SteppeError, StoreError
from steppe.landscapes.directions.random import has_filters
from steppe.landscapes.evaluation.landscape import landscape
from steppe.landscapes.subspaces.line import Line
from steppe.measures import MEASURES, build, measure
from steppe.measures.needs.weights.references import StartWeights
from steppe.measuring.modes import Mode
from steppe.objective import Objective
from steppe.registry.registry import Choice, is_code
from steppe.results import Estimate
from steppe_lab.datasets.recent import recent_split
from steppe_lab.datasets.split import Split
from steppe_lab.models.carrying import AbstractCarrying
from steppe_lab.progress import Progress, Report
from steppe_lab.runs.abstract import TIMING, run_kind
from steppe_lab.runs.provenance import note_start
from steppe_lab.runs.training import initial_network, trained_network
from steppe_lab.store.json_files import read_record, write_json, write_record
from steppe_lab.store.records import estimate_record
from steppe_lab.tasks import TASKS
from steppe_lab.training.checkpoints import Checkpoint
from steppe_lab.training.readiness import check_same_data
from steppe_lab.training.recipe import code_of
from steppe_lab.training.rows import ROWS, rows_within
from steppe_lab.training.settings import SEEDS
from steppe_lab.training.trained_loss import TrainedLoss

STATE = "zeros before each piece of the text"  # of a network that could carry one
_LATER = ("mode", "batch_size")  # settings that stored analyses do not name


class Analysis(BaseModel):
    """Settings of an analysis.

    Args:
        training: id of the training run.
        measures: measures of flatness, on training samples.
        samples: at most so many training samples, drawn by the seed of the data, so
            that networks trained on the same data are measured on the same samples.
        mode: the network as it predicts, or as it trains.
        batch_size: samples that go through the network at once, at most. Larger
            batches cost small networks less time and need more memory; numbers change
            by rounding, and those of a measure that is defined by batches with them.
        line_points: points of the loss along a random line; 0 for no line.
        line_radius: the line runs from minus to plus this, in units of the norms of
            the filters.
        seed: of the measures' draws and of the line's direction.
        code: digests of the source files of the code of the user that the network and
            the measures are made by, by name; no other code is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    training: str
    measures: tuple[Choice, ...]
    samples: int = Field(default=2000, ge=1)
    mode: Mode = "eval"
    batch_size: int = Field(default=ROWS, ge=1)
    line_points: int = Field(default=25, ge=0)
    line_radius: float = Field(default=1.0, gt=0.0)
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    code: dict[str, str] = Field(default_factory=dict)

    @field_validator("measures", mode="before")
    @classmethod
    def _choices(cls, value: Any) -> Any:
        return tuple(read_measure(item) for item in value)

    @model_validator(mode="after")
    def _with_code(self) -> Analysis:
        names = [(MEASURES, choice.name) for choice in self.measures]
        mine = {name for _, name in names if is_code(name)}
        before = {name: self.code[name] for name in mine if name in self.code}
        object.__setattr__(self, "code", {**self.code, **code_of(names, before)})
        return self

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without later settings at their defaults, so that ids from before stay."""
        record: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        for name in _LATER:
            if getattr(self, name) == fields[name].default:
                del record[name]
        return record


def read_measure(value: Any) -> Choice:
    """A measure by text or record, its settings checked and completed."""
    if isinstance(value, str):
        choice = MEASURES.parse(value)
    elif isinstance(value, Choice):
        choice = value
    else:
        choice = MEASURES.choose(value["name"], value["settings"])
    build(choice)  # a bad setting shows before any work
    return choice


def keys_of(measures: Sequence[Choice]) -> list[str]:
    """Keys of measures in the result: their names, or texts where two share a name."""
    names = [choice.name for choice in measures]
    return [c.name if names.count(c.name) == 1 else str(c) for c in measures]


@run_kind("analysis", Analysis)
def analyse(analysis: Analysis, folder: Path, report: Report) -> dict[str, Any]:
    """Measure a trained network; measures that are done are not done again."""
    began = time.monotonic()
    checkpoint = trained_network(folder, analysis.training, analysis.code)
    recipe = checkpoint.recipe
    split = recent_split(recipe)
    check_same_data(split.fingerprint, [checkpoint.data], data=recipe.data.name)
    note_start(folder, recipe.device)
    objective = objective_on(
        checkpoint.model,
        split,
        samples=analysis.samples,
        seed=recipe.data_seed,
        mode=analysis.mode,
        rows=analysis.batch_size,
        loss=TrainedLoss.of(recipe, split.task, epochs=checkpoint.epoch),
    )
    steps = len(analysis.measures) + (analysis.line_points > 0)
    keys = keys_of(analysis.measures)
    paths = {
        str(choice): folder / "measures" / f"{number}-{choice.name}.json"
        for number, choice in enumerate(analysis.measures)
    }
    # A worker that died has left the records of the measures it finished.
    whole = {key: record for key, path in paths.items() if (record := _whole(path))}

    def tell(done: int, _all: int) -> None:
        name = analysis.measures[done].name
        report(Progress(done, steps, f"measuring {name}"))

    def write(key: str, estimate: Estimate) -> None:
        # Forty measures would wait for the disk longer than some of them take.
        record = estimate_record(estimate)
        write_record(paths[key], record, survives="nothing")

    try:
        measure(
            objective,
            analysis.measures,
            seed=analysis.seed,
            start=_start(checkpoint, folder.parent / analysis.training, analysis),
            known={key: Estimate.from_dict(record) for key, record in whole.items()},
            progress=tell,
            finished=write,
        )
    except SteppeError:
        # All were refused; their records say why.
        if not all(path.exists() for path in paths.values()):
            raise
    records = {
        name: read_record(path) for name, path in zip(keys, paths.values(), strict=True)
    }
    result: dict[str, Any] = {"measures": records}
    if analysis.line_points:
        report(Progress(steps - 1, steps, "walking a random line"))
        result["line"] = _line(objective, analysis)
    write_json(folder / TIMING, {"seconds": time.monotonic() - began})
    return result


def objective_on(
    model: nn.Module,
    split: Split,
    *,
    part: Literal["train", "test"] = "train",
    samples: int,
    seed: int,
    mode: Mode = "eval",
    rows: int = ROWS,
    loss: TrainedLoss | None = None,
) -> Objective:
    """Mean loss on some samples of one part of a split, `rows` of them in a batch.

    It is the plain one of the task where none is given. A batch has fewer samples where
    the logits of so many tokens would not be in memory several times.
    """
    loss = loss or TrainedLoss(TASKS.build(split.task))
    chosen = split.some(part, samples, seed=seed)
    batches = chosen.batches(rows_within(chosen, loss.task, rows))
    objective = loss.objective(model, batches, mode)
    objective.about |= {"part": part, "augmentation": "none"}
    if isinstance(model, AbstractCarrying):
        objective.about["state"] = STATE
    return objective


def _start(
    checkpoint: Checkpoint, folder: Path, analysis: Analysis
) -> nn.Module | None:
    """The network before its training, if a measure may need it."""
    if not any(needs(choice.name, StartWeights.kind) for choice in analysis.measures):
        return None
    initial = initial_network(checkpoint, folder)
    return initial and initial[0]


def needs(measure: str, kind: str) -> bool:
    """Whether a measure needs something; code of the user does not say."""
    return is_code(measure) or kind in MEASURES[measure].spec.needs


def _line(objective: Objective, analysis: Analysis) -> dict[str, Any]:
    """The loss along a random line; empty for a network of vectors alone."""
    if not has_filters(objective.params):
        return {}
    line = Line.random(objective.model, seed=analysis.seed)
    ends = (-analysis.line_radius, analysis.line_radius, analysis.line_points)
    surface = landscape(
        objective, line, x=ends, samples="all", exact=True, strategy="one_by_one"
    )
    return surface.to_dict()


def _whole(path: Path) -> dict[str, Any] | None:
    """The record of a measure that is finished."""
    try:
        record: dict[str, Any] = read_record(path)
    except StoreError:
        return None
    return record
