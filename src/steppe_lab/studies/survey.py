"""The size of a study before any work: trials, runs, and those that are finished."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

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

    @property
    def runs(self) -> int:
        """Runs of all kinds."""
        return sum(sum(states.values()) for states in self.status.runs.values())

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
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
        return lines


def survey_of(study: Study, settings: StudySettings) -> Survey:
    """The size of a study in its store; no data is read, nothing is written."""
    return Survey(settings, len(study.plan), levels_of(settings), status_of(study))
