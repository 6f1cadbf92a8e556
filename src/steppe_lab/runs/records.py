"""What the runs of a store are, as records: their settings, which are their ids."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from steppe.measures import MEASURES, build
from steppe.registry.registry import Choice, is_code
from steppe_lab.runs.settings import TrainingSettings
from steppe_lab.training.recipe import Recipe, code_of, read_optimizer
from steppe_lab.training.settings import SEEDS

WORK = "steppe_lab.runs.trials:work"  # what does a run, for the executors


def recipe_of(
    settings: TrainingSettings, optimizer: str, seed: int, track: str = ""
) -> Recipe:
    """How one network is trained."""
    shared = set(Recipe.model_fields) & set(TrainingSettings.model_fields) - {"base"}
    pair = read_optimizer(optimizer, settings.base, settings.defaults, track)
    return Recipe(**settings.model_dump(include=shared), **pair, seed=seed)


class Analysis(BaseModel):
    """What to find out about a trained network.

    Args:
        training: id of the training run.
        measures: measures of flatness, on training samples.
        samples: at most so many training samples, drawn by the seed of the data, so
            that networks trained on the same data are measured on the same samples.
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


def read_measure(given: Any) -> Choice:
    """A measure by text or record, its settings checked and completed."""
    if isinstance(given, str):
        choice = MEASURES.parse(given)
    elif isinstance(given, Choice):
        choice = given
    else:
        choice = MEASURES.choose(given["name"], given["settings"])
    build(choice)  # a bad setting shows before any work
    return choice


def training_config(recipe: Recipe) -> dict[str, Any]:
    """A training run as the store keeps it."""
    return {"kind": "training", **recipe.model_dump(mode="json")}


def analysis_config(analysis: Analysis) -> dict[str, Any]:
    """An analysis as the store keeps it."""
    return {"kind": "analysis", **analysis.model_dump(mode="json")}


class Scoring(BaseModel):
    """How well a trained network does on the test set, whatever it was judged on.

    Args:
        training: id of the training run.
        code: digests of the source files of the code of the user that the network is
            made by, by name; no other code is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: str
    code: dict[str, str] = Field(default_factory=dict)


def scoring_config(scoring: Scoring) -> dict[str, Any]:
    """A scoring as the store keeps it."""
    return {"kind": "scoring", **scoring.model_dump(mode="json")}
