"""The local executor: runs of a store, worked on by processes of this computer.

The parent hands out runs in order, one order at a time per worker, and notices workers
that die.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from multiprocessing.connection import wait

from steppe.registry.bounds import POSITIVE, at_least, check_bounds
from steppe_lab.execution.abstract import Bundles, Outcome, Then
from steppe_lab.execution.dispatch import Dispatch, Worker
from steppe_lab.execution.worker_handle import Job, start_worker
from steppe_lab.progress import Report
from steppe_lab.store.store import Store


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
    bundles: Bundles | None = None,
    seconds: float | None = None,
    patient: bool = True,
    retry: bool = True,
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
        SettingError: a number below 1, or a limit of time that is not above 0.
        UsageError: `work` cannot be imported, or workers cannot start.
        StoreError: the store cannot be read or written.
    """
    numbers = {"workers": workers, "max_attempts": max_attempts, "threads": threads}
    check_bounds(numbers, dict.fromkeys(numbers, at_least(1)))
    check_bounds({"seconds": seconds}, {"seconds": POSITIVE})
    together = bundles.work if bundles else ""
    job = Job(work, threads, frozenset(trust), tuple(devices), together)

    def start(pool: list[Worker]) -> None:
        start_worker(pool, store, job)

    dispatch = Dispatch(
        store,
        start,
        lambda sources, timeout: wait(sources, timeout=timeout),
        max_attempts,
        progress,
        then,
        bundles,
        seconds,
        patient,
        retry,
    )
    dispatch.add(runs)
    dispatch.go(min(workers, len(devices)) if devices else workers)
    return dispatch.outcome
