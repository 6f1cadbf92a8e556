"""The body of a worker process of the local executor: claim a run, work, store.

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
from collections.abc import Callable, Collection, Iterator
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
    """Work on this run, if nobody else does."""

    run: str
    attempts: int  # failed ones, when the executor was called
    max_attempts: int


def serve(
    pipe: Connection[Any, Any],
    root: Path,
    stale_after: float,
    work: str,
    trust: Collection[str],
    surroundings: Any,
) -> None:
    """Body of the process: take orders until None comes.

    Args:
        pipe: to the parent.
        root: of the store.
        stale_after: of its leases, seconds.
        work: `module:function`.
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
        store, call = Store(root, stale_after=stale_after), find_work(work)
        reports.send(Ready())
        while (order := pipe.recv()) is not None:
            with reading(store.folder(order.run), trust):
                reports.send(_attempt(store, order, call, heartbeat, reports))
    except SteppeError as error:
        reports.send(Unusable(error))
    except EOFError:  # the parent is gone
        pass


def find_work(name: str) -> Work:
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
    work: Work = imported
    return work


def is_settled(failure: Failure, order: Order) -> bool:
    """Whether a failed run stays failed.

    What raised is tried once per call, as code and data may have been mended since;
    a process that died may have been unlucky and is tried again at once.
    """
    tries = failure.attempts - order.attempts
    return failure.final or tries >= (order.max_attempts if failure.died else 1)


class _Heartbeat:
    """Claims, beats and releases a lease; ends the process when the parent is gone."""

    def __init__(self) -> None:
        self._lease: Lease | None = None
        # The process may end in either thread: never between a claim and its note.
        self._lock = threading.Lock()
        self._forked_by = os.getppid()  # the parent, or the server
        threading.Thread(target=self._run, daemon=True).start()

    @contextlib.contextmanager
    def claimed(self, store: Store, run: str) -> Iterator[Lease | None]:
        """The lease of a run, renewed until the block ends; None: see `Store.claim`."""
        with self._lock:
            self._lease = store.claim(run)
        try:
            yield self._lease
        finally:
            with self._lock:
                self._release()

    def end_process(self) -> None:
        """Release the lease and end, since there is nobody to work for."""
        with self._lock:
            self._release()
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
                if self._lease is not None:
                    self._lease.beat()

    def _release(self) -> None:
        if self._lease is not None:
            self._lease.release()
        self._lease = None


class _Reports:
    """The pipe to the parent, for any thread of the work."""

    def __init__(self, pipe: Connection[Any, Any], heartbeat: _Heartbeat) -> None:
        self._pipe = pipe
        self._heartbeat = heartbeat
        self._lock = threading.Lock()
        self._last = 0.0

    def send(self, message: Progress | Ready | Unusable) -> None:
        try:
            with self._lock:
                self._pipe.send(message)
        except OSError:  # the parent is gone
            self._heartbeat.end_process()

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        # Thinned out, as a work that reports each batch would fill the pipe; its last
        # report comes through.
        if now - self._last >= _QUIET or progress.done >= progress.total:
            self._last = now
            self.send(progress)


def _attempt(
    store: Store, order: Order, work: Work, heartbeat: _Heartbeat, reports: _Reports
) -> Progress:
    run = order.run
    with heartbeat.claimed(store, run) as lease:
        if lease is None:
            if store.status(run) == "finished":
                return stored(run)
            text = "another process works on it"
            return Progress(text=text, run=run, state="waiting")
        failure = store.failure(run)
        if failure is not None and is_settled(failure, order):
            return Progress(text=failure.reason, run=run, state="failed")
        reports.send(Progress(run=run))
        return _carry_out(store, run, work, reports)


def _carry_out(store: Store, run: str, work: Work, reports: _Reports) -> Progress:
    def report(progress: Progress) -> None:
        reports.progress(replace(progress, run=run))

    try:
        result = work(store.config(run), store.folder(run), report)
        if not isinstance(result, dict):
            raise UsageError(f"work must return a dict, got {type(result).__name__}.")
        store.finish(run, result)
    except BaseException as error:  # Ctrl-C does not reach us: it is the work's own
        reason = _one_line(error)
        with contextlib.suppress(StoreError):
            text = "".join(traceback.format_exception(error))
            write_atomically(store.artefact(run, "traceback.txt"), text)
        # Arithmetic that breaks down does so again: nothing else has gone into it.
        final = isinstance(error, SteppeError) and isinstance(error, ArithmeticError)
        failure = store.fail(run, reason, final=final)
        return Progress(text=failure.reason, run=run, state="failed")
    return Progress(1.0, run=run, state="finished")


def _one_line(error: BaseException) -> str:
    if isinstance(error, SteppeError):
        return str(error).strip().partition("\n")[0]
    return one_line(error)
