"""Progress of a comparison: the events of its runs, added up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from steppe_lab.execution.worker import Event


@dataclass(frozen=True)
class Progress:
    """How far a comparison is."""

    done: float  # of `total`, in runs of all kinds
    total: int
    text: str  # what happened last
    ended: bool  # whether that ended a run
    finished: int = 0  # runs that have ended


@dataclass
class Watch:
    """Adds up the events of runs to the progress of a comparison."""

    total: int
    tell: Callable[[Progress], None]
    names: dict[str, str] = field(default_factory=dict)
    fractions: dict[str, float] = field(default_factory=dict)
    skipped: int = 0
    ended: int = 0

    def __call__(self, event: Event) -> None:
        ended = event.state in ("finished", "failed")
        self.fractions[event.run] = 1.0 if ended else event.fraction
        text = f"{self.names[event.run]}: {event.text or event.state}"
        self.ended += ended
        done = sum(self.fractions.values()) + self.skipped
        finished = self.ended + self.skipped
        self.tell(Progress(done, self.total, text, ended, finished))

    def skip(self, runs: int) -> None:
        """Count analyses that cannot be done as done."""
        self.skipped += runs
