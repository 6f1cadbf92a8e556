"""The local executor: runs of a store, worked on by processes of this computer.

The parent hands out runs in order, one at a time per worker, and notices workers
that die. What is stored depends on the runs alone, not on who works on them.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait

from steppe.errors import StoreError, UsageError
from steppe.registry.bounds import at_least, check_bounds
from steppe_lab.execution.abstract import Outcome, Then
from steppe_lab.execution.interrupts import postponed
from steppe_lab.execution.worker import Order, Ready, Unusable
from steppe_lab.execution.worker_handle import Job, Worker, start_worker
from steppe_lab.progress import Progress, Report, silent, stored
from steppe_lab.store.store import Failure, Store

_LOOK_AGAIN = 0.5  # seconds between looks at runs that other processes work on
_PATIENCE = 5.0  # seconds for the workers to end when asked
_FALSE_STARTS = 3  # workers that die at birth, until it is no accident


def run_local(
    store: Store,
    runs: Iterable[str],
    work: str,
    *,
    workers: int = 1,
    progress: Report | None = None,
    max_attempts: int = 2,
    threads: int = 1,
    trust: Collection[str] = (),
    devices: Sequence[str] = (),
    then: Then | None = None,
) -> Outcome:
    """Work on runs until each is finished or has failed.

    Finished runs are not run again. A run whose worker dies is tried again at once,
    one that raised in the next call, unless its failure follows from its settings.
    A run that another process works on is waited for. Workers import the main module
    of the program, so a script calls this below `if __name__ == "__main__":`.

    Args:
        store: where the runs are.
        runs: ids, in the order in which to start them.
        work: `module:function`, called with the settings, the folder of the run and
            a `report(progress)`; the dict it returns is the result.
        workers: processes at most.
        progress: called in this process as runs go on; fast reports are thinned.
        max_attempts: tries in this call of a run whose workers die.
        threads: of the numerical libraries, per worker.
        trust: code of the user, as module:function, that settings may name.
        devices: one for each worker, by the environment variable STEPPE_DEVICE; () for
            as many workers as said, without.
        then: called when a run has ended, with its id and whether it is finished;
            returns runs to work on when all others have been started.

    Returns:
        Runs of the call, and after them those that `then` returned.

    Raises:
        SettingError: a number below 1.
        UsageError: `work` cannot be imported, or workers cannot start.
        StoreError: the store cannot be read or written.
    """
    numbers = {"workers": workers, "max_attempts": max_attempts, "threads": threads}
    check_bounds(numbers, dict.fromkeys(numbers, at_least(1)))
    job = Job(work, threads, frozenset(trust), tuple(devices))
    study = _Study(store, job, max_attempts, progress or silent, then or _nothing)
    study.add(runs)
    study.go(min(workers, len(devices)) if devices else workers)
    return Outcome(
        tuple(run for run in study.attempts if run in study.finished),
        {run: study.failed[run] for run in study.attempts if run in study.failed},
    )


@dataclass
class _Study:
    store: Store
    job: Job
    max_attempts: int
    progress: Report
    then: Then
    queue: deque[str] = field(default_factory=deque)
    followers: list[str] = field(default_factory=list)  # queued when all have begun
    elsewhere: dict[str, None] = field(default_factory=dict)  # others work on them
    attempts: dict[str, int] = field(default_factory=dict)  # of all, before this call
    finished: set[str] = field(default_factory=set)
    failed: dict[str, Failure] = field(default_factory=dict)
    pool: list[Worker] = field(default_factory=list)
    looked: float = 0.0  # when `elsewhere` was last gone through
    false_starts: int = 0

    def add(self, runs: Iterable[str]) -> None:
        """Note finished and finally failed runs, and queue the others."""
        for run in runs:
            if run in self.attempts:
                continue
            finished = self.store.status(run) == "finished"
            failure = None if finished else self.store.failure(run)
            self.attempts[run] = failure.attempts if failure else 0
            if finished:
                self.store.free(run)  # of a worker killed between result and release
                self._note(stored(run))
            elif failure and failure.final:
                self._note(Progress(text=failure.reason, run=run, state="failed"))
            else:
                self.queue.append(run)

    def go(self, workers: int) -> None:
        """Keep workers busy until nothing is left."""
        try:
            while self._fill() or self.elsewhere or self._busy():
                # No more workers than runs: each costs seconds and memory to start.
                wanted = min(workers, len(self.queue) + self._busy())
                while len(self.pool) < wanted:
                    start_worker(self.pool, self.store, self.job)
                self._hand_out()
                self._listen()
                self._reap()
                self._look_elsewhere()
        except BaseException:
            # A second Ctrl-C would leave leases of runs that nobody works on.
            with postponed():
                self._dismiss(at_once=True)
            raise
        self._dismiss()

    def _fill(self) -> bool:
        """Queue followers of ended runs when all others have begun."""
        while self.followers and not self.queue:
            ready, self.followers = self.followers, []
            self.add(ready)
        return bool(self.queue)

    def _busy(self) -> int:
        return sum(worker.run is not None for worker in self.pool)

    def _hand_out(self) -> None:
        for worker in self.pool:
            if self.queue and worker.ready and worker.run is None:
                worker.run = run = self.queue.popleft()
                worker.send(Order(run, self.attempts[run], self.max_attempts))

    def _listen(self) -> None:
        sources = [source for worker in self.pool for source in worker.sources()]
        wait(sources, timeout=_LOOK_AGAIN)
        for worker in self.pool:
            self._poll(worker)

    def _poll(self, worker: Worker) -> None:
        for message in worker.messages():
            if isinstance(message, Unusable):
                raise message.error
            if isinstance(message, Ready):
                worker.ready = True
                continue
            if message.state != "running":
                worker.run = None
            if message.state == "waiting":
                self.elsewhere[message.run] = None
            self._note(message)

    def _note(self, event: Progress) -> None:
        if event.state == "finished":
            self.finished.add(event.run)
        elif event.state == "failed":
            failure = self.store.failure(event.run)
            self.failed[event.run] = failure or Failure(event.text, self.max_attempts)
        self.progress(event)
        if event.ended:
            self.followers += self.then(event.run, event.state == "finished")

    def _reap(self) -> None:
        for worker in list(self.pool):
            how = worker.death()
            if how is None:
                continue
            # As a whole, so that its lease is freed however this study ends.
            with postponed():
                self._remove(worker, how)

    def _remove(self, worker: Worker, how: str) -> None:
        # Its last words first: they may say that the run was finished after all.
        self._poll(worker)
        self.pool.remove(worker)
        worker.close()
        if worker.run is not None:
            self._record_death(worker.run, f"the worker process died ({how})")
        elif not worker.ready:
            self._count_false_start(how)

    def _record_death(self, run: str, reason: str) -> None:
        # Counted under the lease, so that no other process counts the attempt too.
        lease = self.store.claim(run)
        if lease is None:  # it had finished, or another process was faster
            self.elsewhere[run] = None
            return
        with lease:
            failure = self.store.fail(run, reason, died=True)
        tries = failure.attempts - self.attempts[run]
        if tries >= self.max_attempts:
            self._note(Progress(text=reason, run=run, state="failed"))
            return
        # To the front, so that runs keep the order of the call.
        self.queue.appendleft(run)
        again = f"attempt {tries + 1} of {self.max_attempts} follows"
        self._note(Progress(text=f"{reason}; {again}", run=run, state="waiting"))

    def _count_false_start(self, how: str) -> None:
        self.false_starts += 1
        killed = how.startswith("signal")
        somebody = any(worker.ready for worker in self.pool)
        if self.false_starts < _FALSE_STARTS and (killed or somebody):
            return  # another one is started
        why = (
            "something kills them, such as a system that is short of memory; take "
            "fewer workers, or make room"
            if killed
            else "a script that runs a study must do so below if __name__ == "
            "'__main__':, and memory must suffice for every worker"
        )
        raise UsageError(f"worker processes end before they begin ({how}): {why}.")

    def _look_elsewhere(self) -> None:
        if time.monotonic() - self.looked < _LOOK_AGAIN:
            return
        self.looked = time.monotonic()
        for run in list(self.elsewhere):
            status = self.store.status(run)
            if status == "running":
                continue
            del self.elsewhere[run]
            if status == "finished":
                self._note(stored(run))
            else:
                self.queue.append(run)

    def _dismiss(self, *, at_once: bool = False) -> None:
        """End all workers and free the leases they held."""
        # All are asked before each is waited for in turn.
        for worker in self.pool:
            worker.end() if at_once else worker.send(None)
        deadline = time.monotonic() + _PATIENCE
        for worker in self.pool:
            worker.close(max(0.0, deadline - time.monotonic()))
            if worker.run is not None:
                self._tidy(worker.run)
        self.pool.clear()

    def _tidy(self, run: str) -> None:
        # A claim takes away the lease of a dead worker and the files it had begun.
        with contextlib.suppress(StoreError):
            lease = self.store.claim(run)
            if lease is not None:
                lease.release()


def _nothing(*_: object) -> Iterable[str]:
    """No runs, for a run that none follow."""
    return ()
