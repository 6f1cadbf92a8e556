"""The state of a study: its runs by state, its failures, the rate and the time left."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from steppe_lab.store.store import Status
from steppe_lab.studies.study import Study

STATES: tuple[Status, ...] = get_args(Status)
WINDOW = 3600.0  # seconds that the rate is counted over, at most


@dataclass(frozen=True)
class StudyStatus:
    """Runs and trials of a study by state.

    Args:
        trials: number by state; a trial is finished when all of its runs are, failed
            when one is, and running when one is.
        runs: number by kind and state.
        failures: reasons by run, in words: the trial and the kind of its run.
        ended: when results were written, in seconds since 1970, ascending.
    """

    trials: Mapping[str, int]
    runs: Mapping[str, Mapping[str, int]]
    failures: Mapping[str, str] = field(default_factory=dict)
    ended: tuple[float, ...] = ()

    def count(self, state: Status) -> int:
        """Runs of all kinds in a state."""
        return sum(states[state] for states in self.runs.values())

    @property
    def left(self) -> int:
        """Runs that are not finished."""
        return sum(map(self.count, STATES)) - self.count("finished")

    def rate(self, now: float | None = None) -> float | None:
        """Runs that finish in an hour, by those of the last hour.

        The hour begins with the first result where that is later.

        Args:
            now: seconds since 1970; None for this moment.

        Returns:
            None where fewer than two runs have finished in that time.
        """
        now = time.time() if now is None else now
        recent = [when for when in self.ended if now - when <= WINDOW]
        # The first result begins the time in which the others came.
        since = recent[0] if len(recent) == len(self.ended) and recent else now - WINDOW
        counted = sum(when > since for when in recent)
        if not counted or len(recent) < 2:
            return None
        return counted / max(now - since, 1.0) * WINDOW

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "trials": dict(self.trials),
            "runs": {kind: dict(states) for kind, states in self.runs.items()},
            "left": self.left,
            "runs_per_hour": self.rate(),
            "failures": dict(self.failures),
        }


def status_of(study: Study) -> StudyStatus:
    """The state of every run of a study; nothing is written."""
    none: dict[str, int] = dict.fromkeys(STATES, 0)
    trials, runs = dict(none), dict[str, dict[str, int]]()
    failures: dict[str, str] = {}
    ended: list[float] = []
    for run, trial in study.plan.items():
        states = []
        for name, each in {"training": run, **study.followers(run)}.items():
            state = _state_of(study, each)
            runs.setdefault(name, dict(none))[state] += 1
            states.append(state)
            if state == "failed":
                failures[f"{trial.name}, {name}"] = study.why_not(each)
            elif state == "finished":
                ended.append(study.store.finished_at(each) or 0.0)
        trials[_of_trial(states)] += 1
    return StudyStatus(trials, runs, failures, tuple(sorted(ended)))


def _state_of(study: Study, run: str) -> Status:
    """The state of a run; one that was never added is waiting."""
    return study.store.status(run) if study.store.has(run) else "waiting"


def _of_trial(states: list[Status]) -> str:
    for state in ("failed", "running"):
        if state in states:
            return state
    return "finished" if set(states) == {"finished"} else "waiting"
