"""Values at points, each of them evaluated once, by one process or several."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from steppe.files import leases
from steppe.files.leases import Lease
from steppe.landscapes.evaluation.evaluator import Evaluator, PointValues, Progress
from steppe.landscapes.evaluation.recipe import about, recipe_of
from steppe.landscapes.subspaces.abstract import Point
from steppe.surfaces.files.points import PointFolder, cannot_write

BLOCK = 32  # points that are written at a time, and that one process works on
BEAT, STALE = 5.0, 60.0  # seconds between signs of life, and without any
POLL = 0.2  # seconds between looks at the work of others


class Points:
    """Values at points of a subspace, each evaluated once, and the progress of all.

    Args:
        evaluator: of the points.
        progress: called with the number of evaluations of a batch done, and of all
            that are planned.
        folder: keeps points as they finish, and shares them with other processes that
            evaluate the same ones; None: all in memory.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        progress: Progress | None = None,
        folder: Path | None = None,
    ) -> None:
        self.evaluator = evaluator
        self.values: dict[Point, PointValues] = {}
        self._progress = progress
        self._planned: set[Point] = set()
        self._done = 0  # of those that are planned
        self._kept = None
        if folder is not None:
            self._kept = PointFolder(folder, recipe_of(evaluator), about(evaluator))
            self._read(self._kept)

    def plan(self, points: Iterable[Point]) -> None:
        """Say which points there will be; those evaluated before stay planned."""
        done = self._planned & self.values.keys()
        self._planned = done | set(points)
        self._done = sum(point in self.values for point in self._planned)
        if self._done:
            self._report(0)

    def evaluate(self, points: Sequence[Point]) -> None:
        """Evaluate those of some points that are not known, in their order."""
        points = list(dict.fromkeys(points))
        if self._kept is None:
            self._evaluate(points)
            return
        # Blocks of all points, known or not, are the same ones in all processes.
        blocks = [points[i : i + BLOCK] for i in range(0, len(points), BLOCK)]
        try:
            self._share(blocks, self._kept)
        except KeyboardInterrupt as stop:
            stop.add_note(
                f"The points finished so far are kept in {self._kept.path}; make the "
                "same call again to go on."
            )
            raise

    def _share(self, blocks: Sequence[Sequence[Point]], kept: PointFolder) -> None:
        """Evaluate blocks that no other process works on, until all are there."""
        while left := [block for block in blocks if self._missing(block)]:
            worked = False
            for block in left:
                with _claimed(kept.block(block).with_suffix(".lease")) as ours:
                    self._read(kept)  # another process may just have finished it
                    missing = self._missing(block)
                    if ours and missing:
                        self._evaluate(missing)
                        numbers = [asdict(self.values[point]) for point in missing]
                        kept.add(missing, numbers)
                worked |= ours
            if not worked:
                time.sleep(POLL)
                self._read(kept)
                self._report(0)

    def _evaluate(self, points: Sequence[Point]) -> None:
        missing = self._missing(points)
        values = self.evaluator.evaluate(missing, self._reporter(len(missing)))
        self._add(dict(zip(missing, values, strict=True)))

    def _missing(self, points: Sequence[Point]) -> list[Point]:
        return [point for point in points if point not in self.values]

    def _read(self, kept: PointFolder) -> None:
        self._add(
            {
                point: PointValues(
                    **{**numbers, "quantities": dict(numbers["quantities"])}
                )
                for point, numbers in kept.new().items()
            }
        )

    def _add(self, values: Mapping[Point, PointValues]) -> None:
        fresh = values.keys() - self.values.keys()
        self._done += len(fresh & self._planned)
        self.values.update((point, values[point]) for point in fresh)

    def _reporter(self, count: int) -> Progress | None:
        if self._progress is None:
            return None
        whole = count * self._batches
        return lambda done, total: self._report(done * whole // total)

    def _report(self, done: int) -> None:
        if self._progress is not None:
            batches = self._batches
            self._progress(self._done * batches + done, len(self._planned) * batches)

    @property
    def _batches(self) -> int:
        return len(self.evaluator.part.objective.batches)


@contextmanager
def _claimed(path: Path) -> Iterator[bool]:
    """Whether this process has the lease of a work, renewed until the block ends."""
    try:
        leases.break_stale(path, STALE)
        lease = leases.create(path)
    except OSError as error:
        raise cannot_write(path, error) from error
    if lease is None:
        yield False
        return
    ended = threading.Event()
    beating = threading.Thread(target=_beat, args=(lease, ended), daemon=True)
    beating.start()
    try:
        yield True
    finally:
        ended.set()
        beating.join()
        lease.release()


def _beat(lease: Lease, ended: threading.Event) -> None:
    while not ended.wait(BEAT):
        lease.beat()
