"""The body of a worker process of the local executor: claim a run, work, store.

The parent sends ids through a pipe of this worker's own and gets events back. A
worker ignores Ctrl-C, which is the parent's to handle, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from steppe.errors import SteppeError, StoreError, UsageError
from steppe.registry.registry import one_line, reading
from steppe_lab.execution.fork_server import forget_start
from steppe_lab.progress import Progress, Report, stored
from steppe_lab.store.json_files import write_atomically
from steppe_lab.store.leases import Lease
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
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if surroundings is not None:
        surroundings.enter()
    forget_start()
    os.dup2(2, 1)  # what code of the user prints is no output of the command
    heartbeat = _Heartbeat()
    reports = _Reports(pipe)
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
    """Beats the lease in hand; ends the process when the parent is gone."""

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self._forked_by = os.getppid()  # the parent, or the server
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        parent = multiprocessing.parent_process()
        while parent is not None:
            parent.join(_BEAT)  # returns early when the parent dies
            lease = self.lease  # once: the other thread may end its run meanwhile
            # Also by this number, as an orphan gets another parent.
            if not parent.is_alive() or os.getppid() != self._forked_by:
                if lease is not None:
                    lease.release()
                # Not sys.exit, which would end this thread and let the work go on.
                os._exit(1)
            if lease is not None:
                lease.beat()


class _Reports:
    """The pipe to the parent, for any thread of the work."""

    def __init__(self, pipe: Connection[Any, Any]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()
        self._last = 0.0

    def send(self, message: Progress | Ready | Unusable) -> None:
        try:
            with self._lock:
                self._pipe.send(message)
        except OSError:  # no parent, nobody to work for
            os._exit(1)

    def progress(self, progress: Progress) -> None:
        now = time.monotonic()
        # Thinned out, as a work that reports each batch would fill the pipe.
        if now - self._last >= _QUIET:
            self._last = now
            self.send(progress)


def _attempt(
    store: Store, order: Order, work: Work, heartbeat: _Heartbeat, reports: _Reports
) -> Progress:
    run = order.run
    lease = store.claim(run)
    if lease is None:
        done = store.status(run) == "finished"
        if done:
            return stored(run)
        return Progress(text="another process works on it", run=run, state="waiting")
    with lease:
        failure = store.failure(run)
        if failure is not None and is_settled(failure, order):
            return Progress(text=failure.reason, run=run, state="failed")
        # From here on the lease is renewed, however long the work takes.
        heartbeat.lease = lease
        try:
            reports.send(Progress(run=run))
            return _carry_out(store, run, work, reports)
        finally:
            heartbeat.lease = None


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
