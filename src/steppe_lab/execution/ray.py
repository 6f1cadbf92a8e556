"""The executor of a Ray cluster: runs of a store that all its nodes share.

Ray (Moritz et al., 2018) starts an actor for every worker where there is room, and each
actor has one worker process, the same as the local executor has. Runs are claimed by
leases in the store, so that several executors of any kind can work on it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from steppe.errors import StoreError, UsageError, install
from steppe.files import leases
from steppe.files.leases import Lease
from steppe.registry.bounds import POSITIVE, Range, at_least, check_bounds
from steppe_lab.execution.abstract import Bundles, Outcome, Then
from steppe_lab.execution.dispatch import Dispatch, Worker
from steppe_lab.execution.worker import Message, Order, Unusable
from steppe_lab.execution.worker_handle import Job, start_worker
from steppe_lab.progress import Progress, Report
from steppe_lab.store.json_files import cannot
from steppe_lab.store.store import Store

_POLL = 10.0  # seconds that an actor waits for its process to say something
_GATHER = 0.5  # seconds in which it gathers reports of progress
_GOODBYE = 3.0  # seconds for its process to end when asked


def run_ray(
    store: Store,
    runs: Iterable[str],
    work: str,
    *,
    address: str | None = None,
    workers: int | None = None,
    cpus: float = 1.0,
    gpus: float = 0.0,
    progress: Report | None = None,
    max_attempts: int = 2,
    threads: int = 1,
    trust: Collection[str] = (),
    then: Then | None = None,
    bundles: Bundles | None = None,
    seconds: float | None = None,
    patient: bool = True,
    retry: bool = True,
) -> Outcome:
    """Work on runs on a Ray cluster until each is finished or has failed.

    As `run_local` does it: results are the same where the nodes compute the same.

    Args:
        store: where the runs are, in a folder that all nodes have by the same path.
        runs: ids, in the order in which to start them.
        work: `module:function`, called with the settings, the folder of the run and
            a `report(progress)`; the dict it returns is the result.
        address: of the cluster; None for that of RAY_ADDRESS or of the one that was
            started last on this machine, and where there is none for one of its own.
            A cluster to which this process is connected already is used as it is.
        workers: at most; None for as many as the cluster has room for now.
        cpus: processors of each worker, for Ray to count.
        gpus: GPUs of each worker, also a share of one, such as 0.25.
        progress: called in this process as runs go on; fast reports are thinned.
        max_attempts: tries in this call of a run whose workers die.
        threads: of the numerical libraries, per worker.
        trust: code of the user, as module:function, that settings may name.
        then: called when a run has ended, with its id and whether it is finished;
            returns runs to work on when all others have been started.
        bundles: how runs are done together; None for each by itself.
        seconds: from the call on, after which no run is begun; those that go on may
            end. None for no limit.
        patient: wait for runs that other processes work on; else those are left out
            when nothing else is to be done.
        retry: try again what failed in earlier calls, by whomever they were made.

    Returns:
        Runs of the call, and after them those that `then` returned. Those that are
        left out are in neither part.

    Raises:
        SettingError: a number out of its range.
        UsageError: Ray is missing or out of reach, a node does not see the store, no
            node has room for a worker, or `work` cannot be imported.
        StoreError: the store cannot be read or written.
    """
    counts = {"workers": workers, "max_attempts": max_attempts, "threads": threads}
    check_bounds(counts, dict.fromkeys(counts, at_least(1)))
    ranges = {"cpus": Range(0.0), "gpus": Range(0.0), "seconds": POSITIVE}
    check_bounds({"cpus": cpus, "gpus": gpus, "seconds": seconds}, ranges)
    together = bundles.work if bundles else ""
    job = Job(work, threads, frozenset(trust), together=together, forks=False)
    with _connected(address) as ray, _token(store) as token:
        room = _room(ray, cpus, gpus)
        surroundings = _surroundings()
        actor = ray.remote(num_cpus=cpus, num_gpus=gpus, max_concurrency=2)(Host)

        def start(pool: list[Worker]) -> None:
            given = (store.root.absolute(), store.stale_after, job, surroundings)
            pool.append(RayWorker(ray, actor.remote(*given, token)))

        def listen(sources: list[Any], timeout: float) -> None:
            if sources:
                ray.wait(sources, timeout=timeout)
            else:
                time.sleep(timeout)

        dispatch = Dispatch(
            store,
            start,
            listen,
            max_attempts,
            progress,
            then,
            bundles,
            seconds,
            patient,
            retry,
        )
        dispatch.add(runs)
        dispatch.go(workers or room)
        return dispatch.outcome


class Host:
    """A worker process on a node of the cluster, in the hands of an actor there.

    Args:
        root: of the store.
        stale_after: of its leases, seconds.
        job: the work of the process.
        surroundings: of the process that hands out the runs.
        token: a file in the store, to see that this node has it.
    """

    def __init__(
        self,
        root: Path,
        stale_after: float,
        job: Job,
        surroundings: Mapping[str, Any],
        token: Lease,
    ) -> None:
        self._pool: list[Worker] = []
        self._error = _unshared(token)
        if self._error is None:
            self._store = Store(root, stale_after=stale_after)
            _enter(surroundings)
            start_worker(self._pool, self._store, job)

    def exchange(self, order: Order | None) -> tuple[list[Message], str | None]:
        """Give an order, or none, and wait a while for messages.

        Returns:
            Messages, and how the process ended; None while it lives.
        """
        if self._error is not None:
            return [Unusable(self._error)], None
        if not self._pool:
            return [], "it was asked to end"
        (worker,) = self._pool
        if order is not None:
            worker.send(order)
        begun, messages = time.monotonic(), list[Message]()
        while not messages or all(map(_can_wait, messages)):
            patience = _GATHER if messages else _POLL
            left = begun + patience - time.monotonic()
            if left <= 0:
                break
            wait(worker.sources(), timeout=left)
            messages += worker.messages()
            if (death := worker.death()) is not None:
                # What it said last may have come between the two looks.
                return [*messages, *worker.messages()], death
        return messages, None

    def end(self, runs: Sequence[str], at_once: bool) -> None:
        """End the process, and free the leases of its runs, which it may not do."""
        for worker in self._pool:
            worker.end() if at_once else worker.send(None)
            worker.close(_GOODBYE)
        self._pool.clear()
        for run in runs:
            self._store.free(run)


@dataclass
class RayWorker:
    """One actor and the one question to it that is open."""

    ray: Any  # the module
    actor: Any
    ready: bool = False
    runs: dict[str, None] = field(default_factory=dict)
    question: Any = None  # reference to an answer that is to come
    ended: Any = None  # likewise, of the end
    how: str | None = None  # it died

    def send(self, order: Order | None) -> None:
        """Give an order; None asks the process to end."""
        if order is None:
            self._end(at_once=False)
        else:
            self.question = self.actor.exchange.remote(order)

    def messages(self) -> Iterator[Message]:
        """Messages that it has sent and nobody has read."""
        if self.question is None:
            return
        if not self.ray.wait([self.question], timeout=0)[0]:
            return
        question, self.question = self.question, None
        try:
            messages, self.how = self.ray.get(question)
        except self.ray.exceptions.RayError as error:
            messages, self.how = [], _why(error)
        yield from messages

    def sources(self) -> list[Any]:
        """Handles to wait for: ready when it sends something or dies."""
        # An idle one is asked nothing, so that an order can be the next question.
        if self.question is None and self.how is None and (self.runs or not self.ready):
            self.question = self.actor.exchange.remote(None)
        return [] if self.question is None else [self.question]

    def death(self) -> str | None:
        """How it ended, as in `signal 9`; None while it lives."""
        return self.how

    def end(self) -> None:
        """Ask the process to end whatever it does."""
        self._end(at_once=True)

    def close(self, patience: float = 0.0) -> None:
        """Wait for the end, and force it when patience (seconds) is over."""
        # One that has not begun holds no lease, and may wait for room for ever.
        if self.ended is not None and self.ready and self.how is None:
            self.ray.wait([self.ended], timeout=patience + _GOODBYE)
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.kill(self.actor)

    def _end(self, at_once: bool) -> None:
        self.ended = self.actor.end.remote(tuple(self.runs), at_once)


def _can_wait(message: Message) -> bool:
    """Whether a message may be sent along with later ones."""
    return isinstance(message, Progress) and message.state == "running"


def _why(error: Exception) -> str:
    """How an actor ended, in a few words."""
    cause = getattr(error, "cause", None)
    lines = str(cause or error).strip().splitlines()
    return f"Ray: {lines[-1].strip() if lines else type(error).__name__}"


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """The module `ray`, connected to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            f"to run on a cluster needs the package ray ({error}); {install('ray')}."
        ) from None
    if ray.is_initialized():
        yield ray
        return
    # Nobody is to be told of this study, nor by Ray of itself.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address=address, include_dashboard=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, as the way to the cluster goes
        named = address or os.environ.get("RAY_ADDRESS") or "on this machine"
        raise UsageError(
            f"cannot reach a Ray cluster {named} ({_why(error)}); start one with `ray "
            "start --head`, or name it by --address or RAY_ADDRESS."
        ) from error
    try:
        # Ray ends the process by this signal in its own way, without its callers.
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, before)
        yield ray
    finally:
        ray.shutdown()


def _room(ray: Any, cpus: float, gpus: float) -> int:
    """How many workers the cluster has room for now.

    Raises:
        UsageError: none.
    """
    room = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        asked = {"CPU": cpus, "GPU": gpus}
        fits = [has.get(name, 0.0) // n for name, n in asked.items() if n > 0]
        room += int(min(fits, default=1))
    if room < 1:
        raise UsageError(
            f"no node of the Ray cluster has {cpus:g} processors and {gpus:g} GPUs for "
            "a worker; ask for less, or start nodes that have them."
        )
    return room


@contextlib.contextmanager
def _token(store: Store) -> Iterator[Lease]:
    """A file in the store while the block runs, which no other folder has."""
    # By a new name: no node can have looked for it in vain, and remember that.
    path = store.root.absolute() / f".shared.{secrets.token_hex(6)}"
    try:
        store.root.mkdir(parents=True, exist_ok=True)
        for other in store.root.glob(".shared.*"):  # of one that was killed
            leases.break_stale(other, math.inf)
        lease = leases.create(path)
    except OSError as error:
        raise cannot("write", path, error) from error
    if lease is None:
        raise StoreError(f"{path} is there already; run again.")
    with lease:
        yield lease


def _unshared(token: Lease) -> UsageError | None:
    """The refusal of a node that does not have the folder of the store."""
    if token.held():
        return None
    return UsageError(
        f"the node {socket.gethostname()} of the Ray cluster does not see the store "
        f"{token.path.parent}; put it into a folder that all nodes share by the same "
        "path."
    )


def _surroundings() -> dict[str, Any]:
    """Of this process: settings of steppe, folder, and where modules are found."""
    started = get_preparation_data("worker")
    main = {name: started.get(f"init_main_from_{name}") for name in ("name", "path")}
    own = {k: v for k, v in os.environ.items() if k.startswith("STEPPE_")}
    return {"environment": own, "folder": os.getcwd(), "path": sys.path, "main": main}


def _enter(surroundings: Mapping[str, Any]) -> None:
    """Make the worker process a child of such surroundings, as a local one is."""
    os.environ.update(surroundings["environment"])
    with contextlib.suppress(OSError):
        os.chdir(surroundings["folder"])
    sys.path.extend(each for each in surroundings["path"] if each not in sys.path)
    # The child imports the main module of its parent, which here is one of Ray.
    main: Any = sys.modules["__main__"]
    name, path = surroundings["main"]["name"], surroundings["main"]["path"]
    main.__spec__ = SimpleNamespace(name=name) if name else None
    main.__dict__.pop("__file__", None)
    if path and Path(path).exists():
        main.__file__ = path
