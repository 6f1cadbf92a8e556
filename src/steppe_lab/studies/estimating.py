"""The time that the runs of a study take, estimated from those that are finished.

A run takes its cost (`costs.py`) times the seconds for each unit of cost. These are
measured on finished runs of its kind: those of the same model where there are any, else
all of them. The ends of the interval are the sums if every run were as fast as the
fastest of those runs, and as slow as the slowest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from steppe.errors import StoreError
from steppe_lab.runs.abstract import TIMING
from steppe_lab.store.json_files import exists, read_json
from steppe_lab.store.store import Store
from steppe_lab.studies.costs import forwards, published_samples
from steppe_lab.studies.expansion import levels_of
from steppe_lab.studies.plan import Plan, Trial, data_of
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.study import Study
from steppe_lab.training.recipe import Recipe


@dataclass(frozen=True)
class TimeLeft:
    """Seconds of computing on one core, for the runs that are not finished.

    Args:
        seconds: by the mean speed of runs alike.
        low: at the speed of the fastest of them.
        high: at the speed of the slowest.
        trials: finished ones that it rests on.
        unknown: kinds of runs of which none has finished, left out of the sums.
    """

    seconds: float
    low: float
    high: float
    trials: int
    unknown: tuple[str, ...] = ()

    def to_dict(self, workers: int) -> dict[str, Any]:
        """All of it as JSON has it, and hours on so many workers."""
        own = {**asdict(self), "unknown": list(self.unknown)}
        hours = [self.seconds, self.low, self.high]
        named = ("hours", "hours_low", "hours_high")
        spread = {n: s / workers / 3600 for n, s in zip(named, hours, strict=True)}
        return {**own, "workers": workers, **spread}


@dataclass(frozen=True)
class _Run:
    """A run of a study: its trial, kind and model, its cost and its seconds."""

    trial: str
    kind: str
    model: str
    cost: float
    finished: bool
    seconds: float | None  # measured; None where it is not finished


def time_left(study: Study) -> TimeLeft | None:
    """An estimate for all runs that are not finished; None where none has finished."""
    if not any(map(study.store.is_finished, study.plan)):
        return None  # without a cost for each run, which takes seconds for thousands
    runs = list(_runs(study))
    timed = [run for run in runs if run.seconds is not None]
    if not timed:
        return None
    left = [run for run in runs if not run.finished]
    speeds: dict[tuple[str, str], list[float]] = {}
    for run in timed:
        speed = (run.seconds or 0.0) / run.cost
        for alike in ((run.kind, run.model), (run.kind, "")):
            speeds.setdefault(alike, []).append(speed)
    seconds = low = high = 0.0
    for run in left:
        of_kind = speeds.get((run.kind, ""))
        known = speeds.get((run.kind, run.model), of_kind)
        if known and of_kind:
            seconds += run.cost * sum(known) / len(known)
            low += run.cost * min(known)
            high += run.cost * max(known)
    unknown = {run.kind for run in left} - {run.kind for run in timed}
    trials = len({run.trial for run in timed})
    return TimeLeft(seconds, low, high, trials, tuple(sorted(unknown)))


def spread_out(plan: Plan, settings: StudySettings, count: int) -> Plan:
    """A few trials that differ as much as possible, the first of the plan among them.

    Each next one is the trial whose distance to the nearest of those before is largest;
    the distance is the sum over factors of the difference of their levels' places, from
    0 to 1. The first of several such trials is taken.
    """
    places = _places(settings)
    trials = list(plan.values())
    points = [
        [places[k].get(repr(v), 0.0) for k, v in t.factors.items()] for t in trials
    ]
    nearest = [_distance(point, points[0]) for point in points]
    chosen = [0]
    while len(chosen) < min(count, len(trials)):
        # Trials that differ in the seed alone come last.
        free = [number for number in range(len(trials)) if number not in chosen]
        farthest = max(free, key=lambda number: (nearest[number], -number))
        chosen.append(farthest)
        nearest = [
            min(before, _distance(point, points[farthest]))
            for before, point in zip(nearest, points, strict=True)
        ]
    return plan.of([trials[number] for number in sorted(chosen)])


def seconds_of(store: Store, run: str) -> float | None:
    """Seconds that a finished run took; None where that is not known."""
    path = store.artefact(run, TIMING)
    try:
        seconds = read_json(path).get("seconds") if exists(path) else None
    except (StoreError, AttributeError):  # no result depends on it
        return None
    return float(seconds) if isinstance(seconds, int | float) else None


def _places(settings: StudySettings) -> dict[str, dict[str, float]]:
    return {
        factor: {
            repr(level): number / max(len(levels) - 1, 1)
            for number, level in enumerate(levels)
        }
        for factor, levels in levels_of(settings).items()
    }


def _distance(one: list[float], other: list[float]) -> float:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _runs(study: Study) -> Iterable[_Run]:
    sizes = _Sizes(study)
    for run, trial in study.plan.items():
        cost = forwards(trial.recipe, *sizes.of(trial.recipe))
        pieces = {"training": (run, cost)}
        pieces |= {name: (each, 1.0) for name, each in study.followers(run).items()}
        for kind, (each, price) in pieces.items():
            finished = study.store.is_finished(each)
            seconds = seconds_of(study.store, each) if finished else None
            yield _Run(trial.name, kind, _model(trial), price, finished, seconds)


def _model(trial: Trial) -> str:
    return str(trial.recipe.model)


class _Sizes:
    """Training and test samples of recipes, as finished runs of the same data say.

    Without such runs they are those of the data set as published, or of other data.
    """

    USUAL = (50_000, 10_000)  # where nothing is known, all trials have the same

    def __init__(self, study: Study) -> None:
        self._study = study
        self._by_data: dict[str, tuple[int, int]] = {}

    def of(self, recipe: Recipe) -> tuple[int, int]:
        """Numbers of samples; as published where no run of this data has finished."""
        data = data_of(recipe)
        if data not in self._by_data:
            self._by_data[data] = self._measured(recipe)
        return self._by_data[data]

    def _measured(self, recipe: Recipe) -> tuple[int, int]:
        sizes: Mapping[str, Any] | None = None
        data = data_of(recipe)
        for run, trial in self._study.plan.items():
            own = data_of(trial.recipe)
            if own == data and self._study.store.is_finished(run):
                sizes = self._study.store.result(run)
                break
        if sizes is None:
            before = next(iter(self._by_data.values()), self.USUAL)
            return published_samples(recipe) or before
        return int(sizes["train_samples"]), int(sizes["test_samples"])
