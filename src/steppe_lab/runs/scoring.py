"""Scoring runs: a trained network on the test set, whatever it was judged on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from steppe_lab.datasets.recent import recent_split
from steppe_lab.progress import Progress, Report
from steppe_lab.runs.abstract import run_kind
from steppe_lab.runs.provenance import note_start
from steppe_lab.runs.training import kept_network
from steppe_lab.tasks import TASKS
from steppe_lab.training.callbacks.keeping import LAST
from steppe_lab.training.evaluation import judge
from steppe_lab.training.readiness import check_same_data


class Scoring(BaseModel):
    """Settings of a scoring on the test set.

    Args:
        training: id of the training run.
        checkpoint: name of one that it kept, such as best; "" for its last network.
        code: digests of the source files of the code of the user that the network is
            made by, by name; no other code is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    training: str
    checkpoint: str = ""
    code: dict[str, str] = Field(default_factory=dict)

    @model_serializer(mode="wrap")
    def _said(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the later setting at its default, so that ids from before stay."""
        record: dict[str, Any] = handler(self)
        if not self.checkpoint:
            del record["checkpoint"]
        return record


@run_kind("scoring", Scoring)
def score(scoring: Scoring, folder: Path, report: Report) -> dict[str, Any]:
    """Score a trained network on the test set."""
    at = scoring.checkpoint or LAST
    checkpoint = kept_network(folder, scoring.training, at, scoring.code)
    recipe = checkpoint.recipe
    check_same_data(
        recent_split(recipe).fingerprint, [checkpoint.data], data=recipe.data.name
    )
    note_start(folder, recipe.device)
    report(Progress(text="scoring on the test set"))
    split = recent_split(recipe.model_copy(update={"held_out": "test"}))
    score = judge(checkpoint.model, split.test, TASKS.build(split.task))
    return {**score.metrics, "samples": score.samples}
