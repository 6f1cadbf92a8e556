"""Progress of a comparison: that of its runs, added up, and an estimate of its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from steppe_lab.progress import Progress, Report

ENOUGH = 2  # runs that must have finished before the end is estimated


@dataclass(frozen=True)
class Piece:
    """A run of a comparison: its name, its kind, its cost among those of its kind."""

    name: str
    kind: str
    cost: float


@dataclass
class Watch:
    """Adds up the progress of runs to that of a comparison.

    Args:
        tell: called with the progress of the whole.
        workers: runs that go on at the same time, at most.
        clock: seconds.
    """

    tell: Report
    workers: int = 1
    clock: Callable[[], float] = time.monotonic
    pieces: dict[str, Piece] = field(default_factory=dict)  # by run
    _fractions: dict[str, float] = field(default_factory=dict)
    _begun: dict[str, float] = field(default_factory=dict)  # time, here
    _ended: set[str] = field(default_factory=set)
    _spent: dict[str, list[float]] = field(default_factory=dict)  # seconds, costs
    _timed: int = 0  # runs that were begun and finished here

    def __call__(self, progress: Progress) -> None:
        """Take the progress of one run, and tell that of all."""
        run, piece = progress.run, self.pieces[progress.run]
        if progress.state == "running":
            self._begun.setdefault(run, self.clock())
        elif progress.ended:
            self._end(run, piece, counts=progress.state == "finished")
        else:  # it begins anew, here or elsewhere
            self._begun.pop(run, None)
        self._fractions[run] = 1.0 if progress.ended else progress.fraction
        left, left_of = self._left()
        self.tell(
            replace(
                progress,
                done=sum(self._fractions.values()),
                total=len(self.pieces),
                text=f"{piece.name}: {progress.text or progress.state}",
                finished=len(self._ended),
                left=left,
                left_of=left_of,
            )
        )

    def skip(self, run: str) -> None:
        """Count a run that cannot be done as done."""
        self._fractions[run] = 1.0
        self._ended.add(run)

    def _end(self, run: str, piece: Piece, *, counts: bool) -> None:
        self._ended.add(run)
        begun = self._begun.pop(run, None)
        if counts and begun is not None:
            spent = self._spent.setdefault(piece.kind, [0.0, 0.0])
            spent[0] += self.clock() - begun
            spent[1] += piece.cost
            self._timed += 1

    def _left(self) -> tuple[float | None, str]:
        """Seconds until the end of all kinds of runs that one has finished of."""
        if self._timed < ENOUGH:
            return None, ""
        waiting: dict[str, list[float]] = {}  # seconds of each run left, by kind
        for run, piece in self.pieces.items():
            if run not in self._ended:
                waiting.setdefault(piece.kind, []).append(self._seconds(run, piece))
        known = [kind for kind in waiting if kind in self._spent]
        if not known:
            return None, ""
        # Runs of a kind that none has finished of have no known price.
        times = [each for kind in known for each in waiting[kind]]
        left = max(sum(times) / min(self.workers, len(times)), max(times))
        return left, "" if len(known) == len(waiting) else " and ".join(known)

    def _seconds(self, run: str, piece: Piece) -> float:
        """Seconds that a run still takes; 0 where its kind has no price yet."""
        seconds, cost = self._spent.get(piece.kind, (0.0, 1.0))
        whole = piece.cost * seconds / cost
        if run in self._begun:
            # By the clock, as a run says seldom how far it is.
            whole -= self.clock() - self._begun[run]
        return max(whole, 0.0)
