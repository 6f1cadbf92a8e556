"""Values at points, each of them evaluated once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from steppe.landscapes.evaluation.evaluator import Evaluator, PointValues, Progress
from steppe.landscapes.subspaces.abstract import Point


class Points:
    """Values at points of a subspace, each evaluated once, and the progress of all.

    Args:
        evaluator: of the points.
        progress: called with the number of evaluations of a batch done, and of all
            that are planned.
    """

    def __init__(self, evaluator: Evaluator, progress: Progress | None = None) -> None:
        self.evaluator = evaluator
        self.values: dict[Point, PointValues] = {}
        self._progress = progress
        self._planned = 0

    def plan(self, points: Iterable[Point]) -> None:
        """Say which points there will be, beside those that are known."""
        self._planned = len(self.values.keys() | set(points))
        self._report(0, 0)

    def evaluate(self, points: Sequence[Point]) -> None:
        """Evaluate those of some points that are not known, in their order."""
        missing = [p for p in dict.fromkeys(points) if p not in self.values]
        found = self.evaluator.evaluate(missing, self._reporter(len(missing)))
        self.values.update(zip(missing, found, strict=True))

    def _reporter(self, count: int) -> Progress | None:
        if self._progress is None:
            return None
        whole = count * self._batches
        return lambda done, total: self._report(done * whole // total, whole)

    def _report(self, done: int, of: int) -> None:
        # A call without work has nothing to say until the plan becomes shorter.
        if self._progress is None or not (of or self.values):
            return
        before, batches = len(self.values), self._batches
        self._progress(before * batches + done, self._planned * batches)

    @property
    def _batches(self) -> int:
        return len(self.evaluator.part.objective.batches)
