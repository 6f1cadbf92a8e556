"""The parent's side of a worker process: start, messages, death and end."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

from steppe_lab.execution.worker import Event, Order, Ready, Unusable, serve
from steppe_lab.store.store import Store

_THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


@dataclass(frozen=True)
class Job:
    """The work of the processes of a pool."""

    work: str  # module:function
    threads: int  # of the numerical libraries
    trust: frozenset[str]  # code of the user that settings may name


@dataclass
class Worker:
    """One process and the pipe to it; `run` is the one in work."""

    process: SpawnProcess
    pipe: Connection[Any, Any]
    ready: bool = False
    open: bool = True  # whether the pipe can still bring something
    run: str | None = None

    def send(self, order: Order | None) -> None:
        """Give an order; None asks the process to end."""
        with contextlib.suppress(OSError):  # it died: that is noticed by `death`
            self.pipe.send(order)

    def messages(self) -> Iterator[Event | Ready | Unusable]:
        """Messages that it has sent and nobody has read."""
        try:
            # The pipe of a dead worker still holds its last messages.
            while self.open and self.pipe.poll():
                yield self.pipe.recv()
        except (EOFError, OSError):
            self.open = False

    def sources(self) -> list[Any]:
        """Handles to wait for: ready when it sends something or dies."""
        sentinel = self.process.sentinel
        return [self.pipe, sentinel] if self.open else [sentinel]

    def death(self) -> str | None:
        """How the process ended: `signal 9`, `exit code 3`; None while it lives."""
        code = self.process.exitcode
        if code is None:
            return None
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def close(self, patience: float = 0.0) -> None:
        """Wait for the process to end, and kill it when patience (seconds) is over."""
        self.process.join(patience)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        self.pipe.close()
        self.process.close()


def start_worker(pool: list[Worker], store: Store, job: Job) -> None:
    """Start a worker and add it to the pool, so that no interrupt falls between."""
    # A forked child would inherit the threads' locks of the numerical libraries.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    root = store.root.absolute()
    process = context.Process(
        target=serve, args=(theirs, root, store.stale_after, job.work, job.trust)
    )
    with _no_interrupt(), _thread_limits(job.threads):
        process.start()
        pool.append(Worker(process, ours))
    # Only the worker may hold this end, or its death would never close the pipe.
    theirs.close()


@contextlib.contextmanager
def _no_interrupt() -> Iterator[None]:
    """Hold Ctrl-C back, here and in a process started here, until it ignores it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Starting the tracker unblocks the signal, so it is started before.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _thread_limits(threads: int) -> Iterator[None]:
    # Numerical libraries read these when they load, so the child must be born with
    # them: its first imports are those of the main module.
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
