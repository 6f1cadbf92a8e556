"""Scoring runs: a trained network on the test set, whatever it was judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from steppe_lab.datasets.recent import recent_split
from steppe_lab.progress import Progress, Report
from steppe_lab.runs.abstract import run_kind
from steppe_lab.runs.provenance import note_start
from steppe_lab.runs.training import trained_network
from steppe_lab.tasks import TASKS
from steppe_lab.training.evaluation import judge
from steppe_lab.training.readiness import check_same_data


class Scoring(BaseModel):
    """Settings of a scoring on the test set.

    Args:
        training: id of the training run.
        code: digests of the source files of the code of the user that the network is
            made by, by name; no other code is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: str
    code: dict[str, str] = Field(default_factory=dict)


@run_kind("scoring", Scoring)
def score(scoring: Scoring, folder: Path, report: Report) -> dict[str, Any]:
    """Score a trained network on the test set."""
    checkpoint = trained_network(folder, scoring.training, scoring.code)
    recipe = checkpoint.recipe
    check_same_data(
        recent_split(recipe).fingerprint, [checkpoint.data], data=recipe.data.name
    )
    note_start(folder, recipe.device)
    report(Progress(text="scoring on the test set"))
    split = recent_split(recipe.model_copy(update={"held_out": "test"}))
    score = judge(checkpoint.model, split.test, TASKS.build(split.task))
    return {**score.metrics, "samples": score.samples}
