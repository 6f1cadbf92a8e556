"""The body of a worker process: claim runs, work, store.

The parent sends ids through a pipe of this worker's own and gets events back. A
worker ignores Ctrl-C, which is the parent's to handle, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import threading
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from steppe.errors import SteppeError, StoreError, UsageError
from steppe.files.leases import Lease
from steppe.registry.registry import one_line, reading
from steppe_lab.execution.fork_server import forget_start
from steppe_lab.execution.interrupts import leave_ctrl_c_to_the_parent
from steppe_lab.progress import Progress, Report, stored
from steppe_lab.store.json_files import write_atomically
from steppe_lab.store.store import Failure, Store

Work = Callable[[dict[str, Any], Path, Report], dict[str, Any]]
Done = Callable[[int, "dict[str, Any] | BaseException"], None]
WorkTogether = Callable[[list[dict[str, Any]], list[Path], Report, Done], None]

_BEAT = 1.0  # seconds between heartbeats and looks at the parent
_QUIET = 0.05  # seconds between two events of one run


@dataclass(frozen=True)
class Ready:
    """The worker has imported the work and asks for runs."""


@dataclass(frozen=True)
class Unusable:
    """No run can be worked on at all."""

    error: SteppeError


@dataclass(frozen=True)
class Order:
    """Work on these runs, but for those that somebody else works on."""

    runs: tuple[str, ...]
    attempts: tuple[int, ...]  # failed ones of each, when the executor was called
    max_attempts: int


Message = Progress | Ready | Unusable


def serve(
    pipe: Connection[Any, Any],
    root: Path,
    stale_after: float,
    work: str,
    together: str,
    trust: Collection[str],
    surroundings: Any,
) -> None:
    """Body of the process: take orders until None comes.

    Args:
        pipe: to the parent.
        root: of the store.
        stale_after: of its leases, seconds.
        work: `module:function` for one run.
        together: `module:function` for several; "" where there are no bundles.
        trust: code of the user that the settings of a run may name.
        surroundings: of the parent, for a process that did not inherit them.
    """
    leave_ctrl_c_to_the_parent()
    if surroundings is not None:
        surroundings.enter()
    forget_start()
    os.dup2(2, 1)  # what code of the user prints is no output of the command
    heartbeat = _Heartbeat()
    reports = _Reports(pipe, heartbeat)
    try:
        store, one = Store(root, stale_after=stale_after), find_work(work)
        bench = _Bench(store, one, heartbeat, reports)
        if together:
            bench.several = find_work(together)
        reports.send(Ready())
        while (order := pipe.recv()) is not None:
            bench.fulfil(order, trust)
    except SteppeError as error:
        reports.send(Unusable(error))
    except EOFError:  # the parent is gone
        pass


def find_work(name: str) -> Callable[..., Any]:
    """The function that `module:function` names.

    Raises:
        UsageError: no such module or function.
    """
    module, colon, function = name.partition(":")
    try:
        imported = getattr(importlib.import_module(module), function)
    except (Exception, SystemExit) as error:  # importing runs code of the user
        raise UsageError(
            f"work must be an importable module:function, got '{name}' "
            f"({one_line(error)})."
        ) from error
    if not colon or not callable(imported):
        raise UsageError(f"work must be an importable module:function, got '{name}'.")
    work: Callable[..., Any] = imported
    return work


def is_settled(failure: Failure, attempts: int, max_attempts: int) -> bool:
    """Whether a failed run stays failed, after attempts before the call.

    What raised is tried once per call, as code and data may have been mended since;
    a process that died may have been unlucky and is tried again at once.
    """
    tries = failure.attempts - attempts
    return failure.final or tries >= (max_attempts if failure.died else 1)


class _Heartbeat:
    """Claims, beats and releases leases; ends the process when the parent is gone."""

    def __init__(self) -> None:
        self._leases: dict[str, Lease] = {}
        # The process may end in either thread: never between a claim and its note.
        self._lock = threading.Lock()
        self._forked_by = os.getppid()  # the parent, or the server
        threading.Thread(target=self._run, daemon=True).start()

    def claim(self, store: Store, run: str) -> bool:
        """Take the lease of a run and renew it until it is released."""
        with self._lock:
            lease = store.claim(run)
            if lease is not None:
                self._leases[run] = lease
            return lease is not None

    def release(self, *runs: str) -> None:
        """Give the leases of runs back; without one, all that there are."""
        with self._lock:
            self._release(runs or tuple(self._leases))

    def end_process(self) -> None:
        """Release all leases and end, since there is nobody to work for."""
        with self._lock:
            self._release(tuple(self._leases))
            # Not sys.exit, which may end this thread alone and let the work go on.
            os._exit(1)

    def _run(self) -> None:
        parent = multiprocessing.parent_process()
        while parent is not None:
            parent.join(_BEAT)  # returns early when the parent dies
            # Also by this number, as an orphan gets another parent.
            if not parent.is_alive() or os.getppid() != self._forked_by:
                self.end_process()
            with self._lock:
                for lease in self._leases.values():
                    lease.beat()

    def _release(self, runs: Iterable[str]) -> None:
        for run in runs:
            lease = self._leases.pop(run, None)
            if lease is not None:
                lease.release()


class _Reports:
    """The pipe to the parent, for any thread of the work."""

    def __init__(self, pipe: Connection[Any, Any], heartbeat: _Heartbeat) -> None:
        self._pipe = pipe
        self._heartbeat = heartbeat
        self._lock = threading.Lock()
        self._last: dict[str, float] = {}  # time, of each run in work

    def send(self, message: Message) -> None:
        try:
            with self._lock:
                self._pipe.send(message)
        except OSError:  # the parent is gone
            self._heartbeat.end_process()

    def begin(self, runs: Iterable[str]) -> None:
        """Say that runs are begun."""
        self._last = dict.fromkeys(runs, 0.0)
        for run in self._last:
            self.send(Progress(run=run))

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        # Thinned out, as a work that reports each batch would fill the pipe; its last
        # report comes through.
        quiet = _QUIET * len(self._last)
        if (
            now - self._last.get(progress.run, 0.0) >= quiet
            or progress.done >= progress.total
        ):
            self._last[progress.run] = now
            self.send(progress)


class _Bench:
    """Where runs are worked on: their leases, their work and their results."""

    def __init__(
        self, store: Store, one: Work, heartbeat: _Heartbeat, reports: _Reports
    ) -> None:
        self.several: WorkTogether | None = None
        self._store = store
        self._one = one
        self._heartbeat = heartbeat
        self._reports = reports

    def fulfil(self, order: Order, trust: Collection[str]) -> None:
        """Work on the runs of an order, and send an event at the end of each."""
        claimed: list[str] = []
        try:
            for run, attempts in zip(order.runs, order.attempts, strict=True):
                event = self._claim(run, attempts, order.max_attempts)
                if event is None:
                    claimed.append(run)
                else:
                    self._send_end(event)
            self._reports.begin(claimed)
            self._work_on(claimed, trust)
        finally:
            self._heartbeat.release()

    def _claim(self, run: str, attempts: int, max_attempts: int) -> Progress | None:
        """Take a run; the event to send instead where there is nothing to do."""
        if not self._heartbeat.claim(self._store, run):
            if self._store.status(run) == "finished":
                return stored(run)
            text = "another process works on it"
            return Progress(text=text, run=run, state="waiting")
        failure = self._store.failure(run)
        if failure is not None and is_settled(failure, attempts, max_attempts):
            return Progress(text=failure.reason, run=run, state="failed")
        return None

    def _work_on(self, runs: Sequence[str], trust: Collection[str]) -> None:
        if len(runs) > 1 and self.several is not None:
            left = self._work_together(self.several, runs, trust)
            # An exception of all says nothing of any, as where memory is short.
            self._work_on(left[: len(left) // 2], trust)
            self._work_on(left[len(left) // 2 :], trust)
            return
        for run in runs:
            self._send_end(self._work_alone(run, trust))

    def _work_alone(self, run: str, trust: Collection[str]) -> Progress:
        def report(progress: Progress) -> None:
            self._reports.progress(replace(progress, run=run))

        folder = self._store.folder(run)
        try:
            with reading(folder, trust):
                result = self._one(self._store.config(run), folder, report)
        except BaseException as error:  # Ctrl-C does not reach us: it is the work's own
            return self._end(run, error)
        return self._end(run, result)

    def _work_together(
        self, several: WorkTogether, runs: Sequence[str], trust: Collection[str]
    ) -> list[str]:
        """Do runs together; returns those that have not ended where all were stopped.

        Raises:
            StoreError: the end of a member cannot be stored.
        """
        left = dict.fromkeys(runs)
        broken: list[StoreError] = []

        def report(progress: Progress) -> None:
            for run in [progress.run] if progress.run in left else list(left):
                self._reports.progress(replace(progress, run=run))

        def done(index: int, result: dict[str, Any] | BaseException) -> None:
            run = runs[index]
            if run not in left:
                return
            try:
                event = self._end(run, result)
            except StoreError as error:
                broken.append(error)  # the work may keep it to itself
                raise
            del left[run]
            self._send_end(event)

        try:
            folders = [self._store.folder(run) for run in runs]
            with reading(self._store.root, trust):
                several(list(map(self._store.config, runs)), folders, report, done)
        except BaseException:
            if broken:
                raise broken[0] from None
            return list(left)
        if broken:
            raise broken[0]
        for run in list(left):
            silent_end = UsageError("work on several runs must call done for each.")
            self._send_end(self._end(run, silent_end))
        return []

    def _end(self, run: str, result: Any) -> Progress:
        """Store the result of a run, or the exception that it ended with."""
        try:
            if isinstance(result, BaseException):
                raise result
            if not isinstance(result, dict):
                kind = type(result).__name__
                raise UsageError(f"work must return a dict, got {kind}.")
            self._store.finish(run, result)
        except BaseException as error:
            reason = _one_line(error)
            with contextlib.suppress(StoreError):
                text = "".join(traceback.format_exception(error))
                write_atomically(self._store.artefact(run, "traceback.txt"), text)
            # Arithmetic that breaks down does so again: nothing else has gone into it.
            final = isinstance(error, SteppeError) and isinstance(
                error, ArithmeticError
            )
            failure = self._store.fail(run, reason, final=final)
            return Progress(text=failure.reason, run=run, state="failed")
        return Progress(1.0, run=run, state="finished")

    def _send_end(self, event: Progress) -> None:
        """Say how a run stands, when others may have it."""
        self._heartbeat.release(event.run)
        self._reports.send(event)


def _one_line(error: BaseException) -> str:
    if isinstance(error, SteppeError):
        return str(error).strip().partition("\n")[0]
    return one_line(error)
