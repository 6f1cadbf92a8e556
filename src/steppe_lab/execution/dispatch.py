"""Runs handed out to workers, wherever these are, until each run has ended.

What is stored depends on the runs alone, not on who works on them; runs that are done
together may differ by rounding. Executors differ in how a worker is started, told and
listened to.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from steppe.errors import StoreError, UsageError
from steppe_lab.execution.abstract import Bundles, Outcome, Then
from steppe_lab.execution.interrupts import postponed
from steppe_lab.execution.worker import Message, Order, Ready, Unusable, is_settled
from steppe_lab.progress import Progress, Report, silent, stored
from steppe_lab.store.store import Failure, Store

_LOOK_AGAIN = 0.5  # seconds between looks at runs that other processes work on
_PATIENCE = 5.0  # seconds for the workers to end when asked
_FALSE_STARTS = 3  # workers that die at birth, until it is no accident


class Worker(Protocol):
    """One worker, as the process sees it that hands out runs."""

    ready: bool  # it has imported the work
    runs: dict[str, None]  # handed to it, in order, and not ended

    def send(self, order: Order | None) -> None:
        """Give an order; None asks it to end."""

    def messages(self) -> Iterator[Message]:
        """Messages that it has sent and nobody has read."""

    def sources(self) -> list[Any]:
        """Handles to wait for: ready when it sends something or dies."""

    def death(self) -> str | None:
        """How it ended, as in `signal 9`; None while it lives."""

    def end(self) -> None:
        """Ask it to end whatever it does."""

    def close(self, patience: float = 0.0) -> None:
        """Wait for its end, and force it when patience (seconds) is over."""


@dataclass
class Dispatch:
    """Runs of a store and the workers that do them.

    Args:
        store: where the runs are.
        start: starts a worker and adds it to the list.
        listen: waits for one of the workers' handles, at most so many seconds.
        max_attempts: tries in this call of a run whose workers die.
        progress: called as runs go on.
        then: called when a run has ended; returns runs that follow it.
        bundles: how runs are done together.
        seconds: from now on, after which no run is begun.
        patient: wait for runs that other processes work on; else those are left out
            when nothing else is to be done.
        retry: try again what failed before; else that counts for this call.
    """

    store: Store
    start: Callable[[list[Worker]], None]
    listen: Callable[[list[Any], float], object]
    max_attempts: int
    progress: Report | None = None
    then: Then | None = None
    bundles: Bundles | None = None
    seconds: float | None = None
    patient: bool = True
    retry: bool = True
    _queue: deque[tuple[str, ...]] = field(default_factory=deque)
    _followers: list[str] = field(default_factory=list)  # queued when all have begun
    # Others work on them, or a worker died with them and holds the lease still: why.
    _elsewhere: dict[str, str] = field(default_factory=dict)
    _suspects: set[str] = field(default_factory=set)  # died in a bundle
    _attempts: dict[str, int] = field(default_factory=dict)  # of all, before this call
    _finished: set[str] = field(default_factory=set)
    _failed: dict[str, Failure] = field(default_factory=dict)
    _pool: list[Worker] = field(default_factory=list)
    _looked: float = 0.0  # when `_elsewhere` was last gone through
    _false_starts: int = 0

    def __post_init__(self) -> None:
        self._begun = time.monotonic()

    @property
    def outcome(self) -> Outcome:
        """Runs that have ended, in the order in which they were added."""
        return Outcome(
            tuple(run for run in self._attempts if run in self._finished),
            {run: self._failed[run] for run in self._attempts if run in self._failed},
        )

    def add(self, runs: Iterable[str]) -> None:
        """Note finished and finally failed runs, and queue the others."""
        left: list[str] = []
        for run in runs:
            if run in self._attempts:
                continue
            finished = self.store.status(run) == "finished"
            failure = None if finished else self.store.failure(run)
            before = failure.attempts if failure and self.retry else 0
            self._attempts[run] = before
            if finished:
                self.store.free(run)  # of a worker killed between result and release
                self._note(stored(run))
            elif failure and is_settled(failure, before, self.max_attempts):
                self._note(Progress(text=failure.reason, run=run, state="failed"))
            else:
                left.append(run)
        self._enqueue(left)

    def _enqueue(self, runs: Sequence[str]) -> None:
        """Queue runs, in bundles where there are some."""
        if self.bundles is None or not runs:
            self._queue.extend((run,) for run in runs)
            return
        cut = [tuple(each) for each in self.bundles.cut(runs) if each]
        if sorted(run for each in cut for run in each) != sorted(runs):
            raise UsageError(
                f"bundles must hold each of {len(runs)} runs once, got "
                f"{sum(map(len, cut))} in {len(cut)} bundles."
            )
        self._queue.extend(cut)

    def go(self, workers: int) -> None:
        """Keep workers busy until nothing is left."""
        try:
            while self._more() or self._busy():
                if not self._is_over():
                    # No more workers than orders: each costs seconds and memory.
                    wanted = min(workers, len(self._queue) + self._busy())
                    while len(self._pool) < wanted:
                        self.start(self._pool)
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

    def _more(self) -> bool:
        """Whether there is something to begin or to wait for."""
        if self._is_over():
            return False
        return self._fill() or (self.patient and bool(self._elsewhere))

    def _is_over(self) -> bool:
        """Whether the time to begin runs is over."""
        limit = self.seconds
        return limit is not None and time.monotonic() - self._begun >= limit

    def _fill(self) -> bool:
        """Queue followers of ended runs when all others have begun."""
        while self._followers and not self._queue:
            ready, self._followers = self._followers, []
            self.add(ready)
        return bool(self._queue)

    def _busy(self) -> int:
        return sum(bool(worker.runs) for worker in self._pool)

    def _hand_out(self) -> None:
        for worker in self._pool:
            if self._queue and worker.ready and not worker.runs:
                runs = self._queue.popleft()
                worker.runs = dict.fromkeys(runs)
                before = tuple(self._attempts[run] for run in runs)
                worker.send(Order(runs, before, self.max_attempts))

    def _listen(self) -> None:
        sources = [source for worker in self._pool for source in worker.sources()]
        self.listen(sources, _LOOK_AGAIN)
        for worker in self._pool:
            self._poll(worker)

    def _poll(self, worker: Worker) -> None:
        for message in worker.messages():
            if isinstance(message, Unusable):
                raise message.error
            if isinstance(message, Ready):
                worker.ready = True
                continue
            if message.state != "running":
                worker.runs.pop(message.run, None)
            if message.state == "waiting":
                self._elsewhere[message.run] = ""
            self._note(message)

    def _note(self, event: Progress) -> None:
        if event.state == "finished":
            self._finished.add(event.run)
        elif event.state == "failed":
            failure = self.store.failure(event.run)
            self._failed[event.run] = failure or Failure(event.text, self.max_attempts)
        (self.progress or silent)(event)
        if event.ended and self.then is not None:
            self._followers += self.then(event.run, event.state == "finished")

    def _reap(self) -> None:
        for worker in list(self._pool):
            how = worker.death()
            if how is None:
                continue
            # As a whole, so that its lease is freed however this study ends.
            with postponed():
                self._remove(worker, how)

    def _remove(self, worker: Worker, how: str) -> None:
        # Its last words first: they may say that the run was finished after all.
        self._poll(worker)
        self._pool.remove(worker)
        worker.close()
        runs = tuple(worker.runs)
        if len(runs) > 1:
            self._halve(runs, how)
        elif runs:
            self._record_death(runs[0], f"the worker process died ({how})")
        elif not worker.ready:
            self._count_false_start(how)

    def _halve(self, runs: tuple[str, ...], how: str) -> None:
        # One of them may be the cause, and nobody knows which: no attempt is counted,
        # and halves come to an end with single runs, which are.
        self._suspects.update(runs)
        for run in runs:
            self.store.free(run)
            text = f"the worker process died ({how}) with {len(runs)} runs; "
            text += "halves of them follow"
            self._note(Progress(text=text, run=run, state="waiting"))
        middle = len(runs) // 2
        self._queue.extendleft((runs[middle:], runs[:middle]))

    def _record_death(self, run: str, reason: str) -> None:
        # Counted under the lease, so that no other process counts the attempt too.
        lease = self.store.claim(run)
        # It had finished, another process was faster, or the worker is of another
        # computer and its lease is not yet stale.
        if lease is None:
            self._elsewhere[run] = reason
            return
        with lease:
            failure = self.store.fail(run, reason, died=True)
        tries = failure.attempts - self._attempts[run]
        if tries >= self.max_attempts:
            self._note(Progress(text=reason, run=run, state="failed"))
            return
        # To the front, so that runs keep the order of the call.
        self._queue.appendleft((run,))
        again = f"attempt {tries + 1} of {self.max_attempts} follows"
        self._note(Progress(text=f"{reason}; {again}", run=run, state="waiting"))

    def _count_false_start(self, how: str) -> None:
        self._false_starts += 1
        killed = not how.startswith("exit code")
        somebody = any(worker.ready for worker in self._pool)
        if self._false_starts < _FALSE_STARTS and (killed or somebody):
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
        if time.monotonic() - self._looked < _LOOK_AGAIN:
            return
        self._looked = time.monotonic()
        freed: list[str] = []
        for run in list(self._elsewhere):
            status = self.store.status(run)
            if status == "running":
                continue
            reason = self._elsewhere.pop(run)
            if status == "finished":
                self._note(stored(run))
            elif reason:
                self._record_death(run, reason)
            elif run in self._suspects:
                self._queue.append((run,))
            else:
                freed.append(run)
        self._enqueue(freed)

    def _dismiss(self, *, at_once: bool = False) -> None:
        """End all workers and free the leases they held."""
        # All are asked before each is waited for in turn.
        for worker in self._pool:
            worker.end() if at_once else worker.send(None)
        deadline = time.monotonic() + _PATIENCE
        for worker in self._pool:
            worker.close(max(0.0, deadline - time.monotonic()))
            for run in worker.runs:
                self._tidy(run)
        self._pool.clear()

    def _tidy(self, run: str) -> None:
        # A claim takes away the lease of a dead worker and the files it had begun.
        with contextlib.suppress(StoreError):
            lease = self.store.claim(run)
            if lease is not None:
                lease.release()
