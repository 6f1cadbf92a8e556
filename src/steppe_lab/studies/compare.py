"""The main job: do these optimizers find flatter minima here, and does it pay?

Every optimizer is trained from the same initial weights on the same samples, once per
seed, then every network is analysed with the same measures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict

from steppe.optimizers import OPTIMIZERS
from steppe.registry import unknown_name
from steppe_lab.studies.files import read_json, write_json
from steppe_lab.studies.local import run_local
from steppe_lab.studies.settings import CompareSettings, TrainingSettings
from steppe_lab.studies.store import Failure, Store, run_id
from steppe_lab.studies.trials import (
    HISTORY,
    Analysis,
    analysis_config,
    check_ready,
    training_config,
)
from steppe_lab.studies.worker import Event
from steppe_lab.training.recipe import Recipe, read_optimizer

_STUDIES = "studies"  # folder of the settings of comparisons
WORK = "steppe_lab.studies.trials:work"


def recipe_of(settings: TrainingSettings, optimizer: str, seed: int) -> Recipe:
    """How one network is trained."""
    shared = set(Recipe.model_fields) & set(TrainingSettings.model_fields) - {"base"}
    pair = read_optimizer(optimizer, settings.base, settings.defaults)
    return Recipe(**settings.model_dump(include=shared), **pair, seed=seed)


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
    wrong: tuple[int, ...] | None = None  # test samples misclassified at the end
    test_samples: int = 0
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


@dataclass(frozen=True)
class Progress:
    """How far a comparison is."""

    done: float  # of `total`, in trainings and analyses
    total: int
    text: str  # what happened last
    ended: bool  # whether that ended a run


class Study:
    """The runs of a comparison in a store.

    Args:
        settings: all of them; every name and range is checked here.
        store: where finished runs are kept and looked for.

    Raises:
        SettingError: a setting that has no meaning.
    """

    def __init__(self, settings: CompareSettings, store: Store) -> None:
        self.settings = settings
        self.store = store
        planned = [
            (optimizer, seed, recipe_of(settings, optimizer, seed))
            for seed in range(settings.seeds)
            for optimizer in settings.optimizers
        ]
        analysis_of(settings, training="")
        self._recipes = {
            run_id(training_config(recipe)): recipe for _, _, recipe in planned
        }
        self.trainings = {
            run: (optimizer, seed)
            for run, (optimizer, seed, _) in zip(self._recipes, planned, strict=True)
        }

    @property
    def left(self) -> int:
        """Trainings and analyses that are not finished."""
        done = self.store.is_finished
        trained = [run for run in self.trainings if done(run)]
        analysed = [run for run in trained if done(self._analysis(run))]
        return 2 * len(self.trainings) - len(trained) - len(analysed)

    def run(
        self, *, workers: int = 2, progress: Callable[[Progress], None] | None = None
    ) -> Comparison:
        """Do what is left, and collect all of it.

        Args:
            workers: processes, one thread each; results do not depend on it.
            progress: called with each event.

        Raises:
            DataError: data that is missing or damaged; nothing has been done then.
            SettingError: settings that the data or the model refuses, likewise.
        """
        if self.left:
            check_ready(next(iter(self._recipes.values())))
        self._begin()
        watch = _Watch(2 * len(self.trainings), progress or (lambda _: None))
        for run, (optimizer, seed) in self.trainings.items():
            watch.names[run] = f"{optimizer}, seed {seed}"
        trained = run_local(
            self.store, self.trainings, WORK, workers=workers, progress=watch
        )
        for run in trained.finished:
            self.store.add(analysis_config(analysis_of(self.settings, run)))
            watch.names[self._analysis(run)] = watch.names[run] + ", analysis"
        watch.skip(len(trained.failed))
        analysed = run_local(
            self.store,
            [self._analysis(run) for run in trained.finished],
            WORK,
            workers=workers,
            progress=watch,
        )
        return self.collect({**trained.failed, **analysed.failed})

    def collect(self, failed: Mapping[str, Failure] | None = None) -> Comparison:
        """Join the stored results into rows.

        Args:
            failed: runs that failed, by id.

        Raises:
            StoreError: a run is neither finished nor known to have failed.
        """
        failed = failed or {}
        rows, failures, facts = [], [], {}
        for run, (optimizer, seed) in self.trainings.items():
            if run in failed:
                failures.append(f"{optimizer}, seed {seed}: {failed[run].reason}")
                continue
            analysis = self._analysis(run)
            if analysis in failed:
                reason = failed[analysis].reason
                failures.append(f"{optimizer}, seed {seed}, analysis: {reason}")
                continue
            rows.append(_row(self.store, optimizer, seed, run, analysis))
            result = self.store.result(run)
            facts = {name: result[name] for name in _FACTS}
        return Comparison(
            settings=self.settings, rows=tuple(rows), failures=tuple(failures), **facts
        )

    def _begin(self) -> None:
        settings = self.settings
        record = settings.model_dump(mode="json")
        write_json(self.store.root / _STUDIES / f"{settings.name}.json", record)
        for recipe in self._recipes.values():
            self.store.add(training_config(recipe))

    def _analysis(self, training: str) -> str:
        return run_id(analysis_config(analysis_of(self.settings, training)))


def stored_study(store: Store, name: str | None = None) -> Study:
    """A comparison that was begun in a store.

    Args:
        store: where it was begun.
        name: the beginning of its name; None for the newest.

    Raises:
        UnknownNameError: no such comparison, or several.
    """
    paths = sorted((store.root / _STUDIES).glob("compare-*.json"))
    found = [path for path in paths if path.stem.startswith(name or "")]
    if not found or (name is not None and len(found) > 1):
        raise unknown_name("comparison", name or "", [path.stem for path in paths])
    newest = max(found, key=lambda path: path.stat().st_mtime)
    return Study(CompareSettings.model_validate(read_json(newest)), store)


@dataclass
class _Watch:
    """Adds up the events of runs to the progress of a comparison."""

    total: int
    tell: Callable[[Progress], None]
    names: dict[str, str] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    skipped: int = 0

    def __call__(self, event: Event) -> None:
        ended = event.state in ("finished", "failed")
        self.shares[event.run] = 1.0 if ended else event.fraction
        text = f"{self.names[event.run]}: {event.text or event.state}"
        done = sum(self.shares.values()) + self.skipped
        self.tell(Progress(done, self.total, text, ended))

    def skip(self, runs: int) -> None:
        """Count analyses that cannot be done as done."""
        self.skipped += runs


_FACTS = ("notes", "parameters", "train_samples", "test_samples")


def _row(store: Store, optimizer: str, seed: int, run: str, analysis: str) -> Row:
    result, found, config = store.result(run), store.result(analysis), store.config(run)
    method = config["optimizer"]
    return Row(
        optimizer=optimizer,
        seed=seed,
        training=run,
        analysis=analysis,
        settings=config,
        gradients=OPTIMIZERS[method["name"]].spec.grad_evals if method else 1.0,
        last=result["last"],
        best=result["best"],
        wrong=result["wrong"],
        test_samples=result["test_samples"],
        history=read_json(store.artefact(run, HISTORY))["epochs"],
        measures=found["measures"],
        line=found["line"],
    )
