"""The state of a study: its runs by state, and its failures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from steppe_lab.store.store import Status, Store
from steppe_lab.studies.study import Study

STATES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class StudyStatus:
    """Runs and trials of a study by state.

    Args:
        trials: number by state; a trial is finished when all of its runs are, failed
            when one is, and running when one is.
        runs: number by kind and state.
        failures: reasons by run, in words: the trial and the kind of its run.
    """

    trials: Mapping[str, int]
    runs: Mapping[str, Mapping[str, int]]
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """Runs that are not finished."""
        return sum(
            count
            for states in self.runs.values()
            for state, count in states.items()
            if state != "finished"
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "trials": dict(self.trials),
            "runs": {kind: dict(states) for kind, states in self.runs.items()},
            "left": self.left,
            "failures": dict(self.failures),
        }


def status_of(study: Study) -> StudyStatus:
    """The state of every run of a study; nothing is written."""
    none: dict[str, int] = dict.fromkeys(STATES, 0)
    trials, runs = dict(none), dict[str, dict[str, int]]()
    failures: dict[str, str] = {}
    for run, trial in study.plan.items():
        states = []
        for name, each in {"training": run, **study.followers(run)}.items():
            state = state_of(study.store, each)
            runs.setdefault(name, dict(none))[state] += 1
            states.append(state)
            if state == "failed":
                failures[f"{trial.name}, {name}"] = study.why_not(each)
        trials[_of_trial(states)] += 1
    return StudyStatus(trials, runs, failures)


def state_of(store: Store, run: str) -> Status:
    """The state of a run; one that was never added is waiting."""
    return store.status(run) if store.has(run) else "waiting"


def _of_trial(states: list[Status]) -> str:
    for state in ("failed", "running"):
        if state in states:
            return state
    return "finished" if set(states) == {"finished"} else "waiting"
