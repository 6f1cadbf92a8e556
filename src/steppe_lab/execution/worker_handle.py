"""The parent's side of a worker process: start, messages, death and end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from typing import Any

from steppe_lab.execution.dispatch import Worker
from steppe_lab.execution.fork_server import (
    Surroundings,
    environment_of_workers,
    process_context,
    spawn_context,
    start_server,
)
from steppe_lab.execution.interrupts import blocked
from steppe_lab.execution.worker import Message, Order, serve
from steppe_lab.store.store import Store


@dataclass(frozen=True)
class Job:
    """The work of the processes of a pool."""

    work: str  # module:function
    threads: int  # of the numerical libraries
    trust: frozenset[str]  # code of the user that settings may name
    devices: tuple[str, ...] = ()  # one for each worker; () for no choice
    together: str = ""  # module:function for several runs; "" for no bundles
    forks: bool = True  # workers may be copies of a server process


@dataclass
class ProcessWorker:
    """One process and the pipe to it; `runs` are those in work."""

    process: BaseProcess
    pipe: Connection[Any, Any]
    device: str = ""  # that it computes on; "" where the settings of runs say
    ready: bool = False
    open: bool = True  # whether the pipe can still bring something
    runs: dict[str, None] = field(default_factory=dict)

    def send(self, order: Order | None) -> None:
        """Give an order; None asks the process to end."""
        with contextlib.suppress(OSError):  # it died: that is noticed by `death`
            self.pipe.send(order)

    def messages(self) -> Iterator[Message]:
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

    def end(self) -> None:
        """Ask the process to end whatever it does."""
        # One that still imports holds no lease, and heeds nothing milder.
        (self.process.terminate if self.ready else self.process.kill)()

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
    context = process_context(job.threads) if job.forks else spawn_context()
    if isinstance(context, ForkServerContext):
        start_server(job.work)
        try:
            _start(pool, store, job, context)
            return
        except (EOFError, OSError):  # there is no server, or it died
            context = spawn_context()
    _start(pool, store, job, context)


def free_device(devices: Sequence[str], taken: Sequence[str]) -> str:
    """The first device that no worker has; "" where there is no choice.

    Args:
        devices: one for each worker; a device that is there twice is for two.
        taken: those of the workers there are.
    """
    left = list(devices)
    for device in taken:
        if device in left:
            left.remove(device)
    return left[0] if left else ""


def _start(
    pool: list[Worker],
    store: Store,
    job: Job,
    context: SpawnContext | ForkServerContext,
) -> None:
    ours, theirs = context.Pipe()
    root = store.root.absolute()
    orders = (theirs, root, store.stale_after, job.work, job.together, job.trust)
    forked = isinstance(context, ForkServerContext)
    taken = [each.device for each in pool if isinstance(each, ProcessWorker)]
    device = free_device(job.devices, taken)
    try:
        with environment_of_workers(job.threads, device), blocked():
            process: BaseProcess = context.Process(
                target=serve, args=(*orders, Surroundings() if forked else None)
            )
            process.start()
            pool.append(ProcessWorker(process, ours, device))
    finally:
        # Only the worker may hold this end, or its death would never close the pipe.
        theirs.close()
