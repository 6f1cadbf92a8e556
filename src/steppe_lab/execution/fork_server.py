"""Where worker processes come from: one process that has imported torch, forked.

To import torch and the laboratory costs a process some seconds. A server process does
it once, beside the command itself, and every worker is a copy of it. It runs one
thread and never computes, so that no lock of a library is copied in a held state.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
from collections.abc import Iterator
from multiprocessing import forkserver, reduction
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path
from typing import Any

from steppe_lab.execution.interrupts import blocked

THREADS = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
DEVICE = "STEPPE_DEVICE"  # of a worker, for the work it does
# Bytes. The C library gives larger blocks back to the system at once, and tensors of
# small networks are such blocks: their pages were cleared anew in every pass.
_KEPT_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**29),
    "MALLOC_TRIM_THRESHOLD_": str(2**29),
}
# Python looks for modules in the current folder first where it is started with `-c`, as
# worker processes are: a file there named as one would run. What is set here ends with
# the start of the process, since programs that a run starts are none of ours.
_SAFE_PATH, _OURS = "PYTHONSAFEPATH", "until the worker runs"
# A driver that a library has touched cannot be used after a fork.
_GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")


def process_context(threads: int) -> SpawnContext | ForkServerContext:
    """How worker processes of so many threads are started on this machine."""
    safe = sys.platform == "linux" and not any(Path(p).exists() for p in _GPUS)
    if safe and threads == 1:
        return multiprocessing.get_context("forkserver")
    return spawn_context()


def spawn_context() -> SpawnContext:
    """How they are started where there is no server to copy.

    A child forked here would inherit the threads' locks of the numerical libraries.
    """
    return multiprocessing.get_context("spawn")


def start_server(work: str) -> None:
    """Start the server, unless one runs; workers of one thread are copies of it.

    Returns at once, so that the imports of the server go on beside those of this
    process. Without this call the server starts with the first worker.

    Args:
        work: of the workers, `module:function`; the server imports the module.
    """
    if isinstance(process_context(1), ForkServerContext):
        forkserver.set_forkserver_preload([work.partition(":")[0]])
        # It outlives a signal to all processes of the command: the server alone
        # knows which workers have ended.
        with environment_of_workers(1), blocked():
            # Where there can be no socket, as in a folder for temporary files with a
            # long name, workers are started without the server.
            with contextlib.suppress(OSError):
                forkserver.ensure_running()


class Surroundings:
    """Environment and standard error of this process, for a child however it starts.

    A forked worker has those that the server was started with.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return _Received, (dict(os.environ), reduction.DupFd(2))


class _Received:
    """The surroundings, in the child."""

    def __init__(self, environment: dict[str, str], errors: Any) -> None:
        self._environment = environment
        self._errors = errors

    def enter(self) -> None:
        """Make them those of this process."""
        os.environ.clear()
        os.environ.update(self._environment)
        errors = self._errors.detach()
        os.dup2(errors, 2)
        os.close(errors)


def forget_start() -> None:
    """Take the variables for the start of this worker out of its environment."""
    if os.environ.get(_SAFE_PATH) == _OURS:
        del os.environ[_SAFE_PATH]


@contextlib.contextmanager
def environment_of_workers(threads: int, device: str = "") -> Iterator[None]:
    """The environment that worker processes are to be born with.

    Args:
        threads: of the numerical libraries.
        device: for the work of the process; "" for the one that its settings name.
    """
    # Numerical libraries and the C library read these when they load.
    set_here = dict.fromkeys(THREADS, str(threads))
    set_here |= {DEVICE: device} if device else {}
    unless_set = {**_KEPT_MEMORY, _SAFE_PATH: _OURS}
    set_here |= {k: v for k, v in unless_set.items() if k not in os.environ}
    before = {name: os.environ.get(name) for name in set_here}
    os.environ.update(set_here)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
