"""The main job: do these optimizers find flatter minima here, and does it pay?

Every optimizer is trained from the same initial weights on the same samples, once per
seed, then every network is analysed with the same measures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict

from steppe.optimizers import OPTIMIZERS
from steppe_lab.studies.files import read_json
from steppe_lab.studies.local import Outcome, run_local
from steppe_lab.studies.settings import CompareSettings
from steppe_lab.studies.store import Store
from steppe_lab.studies.trials import (
    HISTORY,
    Analysis,
    analysis_config,
    training_config,
)
from steppe_lab.studies.worker import Event
from steppe_lab.training.recipe import Recipe, read_optimizer

WORK = "steppe_lab.studies.trials:work"


def recipes(settings: CompareSettings) -> Iterator[tuple[str, int, Recipe]]:
    """All networks to train: every optimizer with one seed, then with the next."""
    shared = set(Recipe.model_fields) & set(CompareSettings.model_fields) - {"base"}
    common = settings.model_dump(include=shared)
    for seed in range(settings.seeds):
        for optimizer in settings.optimizers:
            pair = read_optimizer(optimizer, settings.base)
            yield optimizer, seed, Recipe(**common, **pair, seed=seed)


def analysis_of(settings: CompareSettings, training: str) -> Analysis:
    """What is found out about one network."""
    return Analysis.model_validate(
        {
            "training": training,
            "measures": settings.measures,
            "samples": settings.measure_samples,
            "line_points": settings.line_points,
            "line_radius": settings.line_radius,
        }
    )


class Row(BaseModel):
    """One network: how it was trained, how well it does, how flat it is."""

    model_config = ConfigDict(frozen=True)

    optimizer: str
    seed: int
    training: str  # id of the run in the store
    analysis: str
    settings: dict[str, Any]  # the whole recipe
    gradients: float  # of the whole batch per step
    last: dict[str, float]  # scores after the last epoch
    best: dict[str, float]  # at the epoch best on the samples judged on
    history: list[dict[str, float]]
    measures: dict[str, dict[str, Any]]
    line: dict[str, Any]


class Comparison(BaseModel):
    """All rows of a comparison, and what could not be done."""

    model_config = ConfigDict(frozen=True)

    settings: CompareSettings
    rows: tuple[Row, ...]
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    parameters: int = 0
    train_samples: int = 0
    test_samples: int = 0

    def of(self, optimizer: str) -> list[Row]:
        """Rows of one optimizer, by seed."""
        found = [row for row in self.rows if row.optimizer == optimizer]
        return sorted(found, key=lambda row: row.seed)


def compare(
    settings: CompareSettings,
    store: Store,
    *,
    workers: int = 2,
    progress: Callable[[Event], None] | None = None,
) -> Comparison:
    """Do what is left of a comparison, and collect it.

    Args:
        settings: all of them.
        store: where finished runs are kept and looked for.
        workers: processes, one thread each; results do not depend on it.
        progress: called with each event.
    """
    planned = list(recipes(settings))  # a bad setting shows before any work
    analysis_of(settings, "")
    trainings = {
        (optimizer, seed): store.add(training_config(recipe))
        for optimizer, seed, recipe in planned
    }
    trained = run_local(
        store, trainings.values(), WORK, workers=workers, progress=progress
    )
    analyses = {
        run: store.add(analysis_config(analysis_of(settings, run)))
        for run in trained.finished
    }
    analysed = run_local(
        store, analyses.values(), WORK, workers=workers, progress=progress
    )
    return collect(settings, store, trainings, analyses, [trained, analysed])


def collect(
    settings: CompareSettings,
    store: Store,
    trainings: dict[tuple[str, int], str],
    analyses: dict[str, str],
    outcomes: list[Outcome],
) -> Comparison:
    """Join the stored results of trainings and analyses into rows."""
    failed = {run: f for outcome in outcomes for run, f in outcome.failed.items()}
    rows, failures = [], []
    facts: dict[str, Any] = {}
    for (optimizer, seed), run in trainings.items():
        reason = failed.get(run) or failed.get(analyses.get(run, ""))
        if reason is not None:
            failures.append(f"{optimizer}, seed {seed}: {reason.reason}")
            continue
        result = store.result(run)
        facts = {k: result[k] for k in _FACTS}
        found = store.result(analyses[run])
        rows.append(
            Row(
                optimizer=optimizer,
                seed=seed,
                training=run,
                analysis=analyses[run],
                settings=store.config(run),
                gradients=_gradients(store.config(run)),
                last=result["last"],
                best=result["best"],
                history=read_json(store.artefact(run, HISTORY))["epochs"],
                measures=found["measures"],
                line=found["line"],
            )
        )
    return Comparison(
        settings=settings, rows=tuple(rows), failures=tuple(failures), **facts
    )


_FACTS = ("notes", "parameters", "train_samples", "test_samples")


def _gradients(config: dict[str, Any]) -> float:
    optimizer = config["optimizer"]
    return OPTIMIZERS[optimizer["name"]].spec.grad_evals if optimizer else 1.0
