"""The size of a study before any work: trials, runs, and those that are finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from steppe_lab.progress import span_in_words
from steppe_lab.studies.estimating import TimeLeft, time_left
from steppe_lab.studies.expansion import levels_of
from steppe_lab.studies.settings import StudySettings
from steppe_lab.studies.status import StudyStatus, status_of
from steppe_lab.studies.study import Study


@dataclass(frozen=True)
class Survey:
    """The size of a study, or of some of its trials."""

    settings: StudySettings
    trials: int
    levels: Mapping[str, list[Any]]  # of the study, by factor
    status: StudyStatus
    workers: int  # that the time is estimated for
    time: TimeLeft | None  # of the runs that are left; None where none has finished

    @property
    def runs(self) -> int:
        """Runs of all kinds."""
        return sum(sum(states.values()) for states in self.status.runs.values())

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        attack = self.settings.attack
        return {
            "study": self.settings.stored_name,
            "trials": self.trials,
            "runs": self.runs,
            "finished": self.runs - self.status.left,
            "left": self.status.left,
            "kinds": {kind: dict(n) for kind, n in self.status.runs.items()},
            "levels": {name: list(levels) for name, levels in self.levels.items()},
            "seeds": list(self.settings.seeds),
            "where": list(self.settings.where),
            "measures": [text for group in self.settings.measures for text in group],
            "attacks": list(attack.attacks) if attack else [],
            "budgets": list(attack.eps) if attack else [],
            "estimate": None if self.time is None else self.time.to_dict(self.workers),
        }

    def lines(self) -> list[str]:
        """The same in words."""
        record = self.to_dict()
        lines = [
            f"{record['study']}: {self.trials:,} trials, {self.runs:,} runs, of them "
            f"{record['finished']:,} finished and {record['left']:,} left",
        ]
        lines += [
            f"  {name}: {', '.join(map(str, levels))}"
            for name, levels in {**self.levels, "seeds": record["seeds"]}.items()
        ]
        lines += [f"  where {text}" for text in record["where"]]
        lines += [f"  measures: {', '.join(record['measures']) or 'none'}"]
        if record["attacks"]:
            budgets = ", ".join(record["budgets"])
            lines += [f"  attacks: {', '.join(record['attacks'])} within {budgets}"]
        if self.time is not None and self.status.left:
            lines.append(f"  {in_words(self.time, self.workers)}")
        return lines


def survey_of(study: Study, settings: StudySettings, workers: int = 1) -> Survey:
    """The size of a study in its store; no data is read, nothing is written.

    Args:
        study: trials and the store.
        settings: of the study.
        workers: that the time is estimated for.
    """
    levels, status = levels_of(settings), status_of(study)
    count = len(study.plan)
    return Survey(settings, count, levels, status, workers, time_left(study))


def in_words(time: TimeLeft, workers: int) -> str:
    """An estimate with its interval and the trials that it rests on, as a sentence."""
    seconds = [each / workers for each in (time.seconds, time.low, time.high)]
    mean, low, high = map(span_in_words, seconds)
    on = "1 worker" if workers == 1 else f"{workers} workers"
    trials = "1 trial" if time.trials == 1 else f"{time.trials:,} trials"
    lacking = f", without {' and '.join(time.unknown)}" if time.unknown else ""
    return (
        f"{mean} left on {on}{lacking}: {low} at the fastest speed, {high} at the "
        f"slowest, measured on {trials}"
    )
