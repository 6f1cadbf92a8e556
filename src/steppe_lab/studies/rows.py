"""Rows of a comparison: the stored results of its networks, joined."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from steppe.optimizers import OPTIMIZERS
from steppe_lab.runs.provenance import Origin
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.runs.training import HISTORY
from steppe_lab.store.json_files import read_record
from steppe_lab.store.store import Store
from steppe_lab.tasks import Metric, stored_headline
from steppe_lab.tasks.abstract import ERROR

FACTS = ("notes", "parameters", "train_samples", "test_samples")


class Row(BaseModel):
    """One network: how it was trained, how well it does, how flat it is."""

    model_config = ConfigDict(frozen=True)

    optimizer: str
    seed: int
    training: str  # id of the run in the store
    analysis: str
    settings: dict[str, Any]  # the whole recipe
    gradients: float  # of the whole batch per step, counted in training
    last: dict[str, float]  # scores after the last epoch
    best: dict[str, float]  # at the epoch best on the samples judged on
    headline: Metric = ERROR  # that networks are judged by
    wrong: tuple[int, ...] | None = None  # test samples misclassified at the end
    test_samples: int = 0
    stopped: str = ""  # the rule that ended the training; "" where none did
    history: list[dict[str, float]]
    measures: dict[str, dict[str, Any]]
    line: dict[str, Any]


class Comparison(BaseModel):
    """All rows of a comparison, and its failures."""

    model_config = ConfigDict(frozen=True)

    settings: CompareSettings
    rows: tuple[Row, ...]
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parameters: int = 0
    train_samples: int = 0
    test_samples: int = 0
    headline: Metric = ERROR  # that networks are judged by
    origins: tuple[Origin, ...] = ()  # where its networks were trained
    corpus_metrics: tuple[Metric, ...] = ()  # of all samples at once
    tested: dict[str, float] = {}  # of a sweep: test headlines by training run

    def of(self, optimizer: str) -> list[Row]:
        """Rows of one optimizer, by seed."""
        rows = (row for row in self.rows if row.optimizer == optimizer)
        return sorted(rows, key=lambda row: row.seed)


def row_of(store: Store, optimizer: str, seed: int, run: str, analysis: str) -> Row:
    """The row of a network from its stored results.

    Args:
        store: where the runs are.
        optimizer: as it was typed.
        seed: of the training.
        run: id of the training.
        analysis: id of its analysis.

    Raises:
        StoreError: a result lacks something.
    """
    needed = ("last", "best", "wrong", "test_samples", *FACTS)
    result, config = result_with(store, run, needed), store.config(run)
    flatness = result_with(store, analysis, ("measures", "line"))
    method = config["optimizer"]
    # Results from before gradients were counted have what the method declares.
    declared = OPTIMIZERS[method["name"]].spec.grad_evals if method else 1.0
    fix = f"delete the folder {store.folder(run)} and run again"
    return Row(
        optimizer=optimizer,
        seed=seed,
        training=run,
        analysis=analysis,
        settings=config,
        gradients=result.get("gradients", declared),
        last=scores(result["last"]),
        best=scores(result["best"]),
        headline=stored_headline(result),
        wrong=result["wrong"],
        test_samples=result["test_samples"],
        stopped=result.get("stopped", ""),
        history=[
            scores(row)
            for row in read_record(store.artefact(run, HISTORY), fix)["epochs"]
        ],
        measures=flatness["measures"],
        line=flatness["line"],
    )


def result_with(store: Store, run: str, needed: tuple[str, ...]) -> dict[str, Any]:
    """The result of a run, which must have some entries.

    Raises:
        StoreError: it lacks one.
    """
    result = store.result(run)
    for name in needed:
        if name not in result:
            raise store.damaged(run, "result.json", f"no {name}")
    return result


def scores(row: Mapping[str, float | None]) -> dict[str, float]:
    """Numbers as they were before JSON, which has no word for infinite losses."""
    return {name: math.nan if v is None else v for name, v in row.items()}
