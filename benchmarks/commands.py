"""Commands timed as a whole: wall time, and CPU time of all of their processes."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ADOPT_ORPHANS = 36  # PR_SET_CHILD_SUBREAPER of prctl


@dataclass(frozen=True)
class Taken:
    """One run of a command."""

    wall: float  # seconds
    cpu: float
    output: str


def timed(
    command: Sequence[str], folder: Path | str, environment: Mapping[str, str]
) -> Taken:
    """Run a command, and wait for all processes that it started.

    Args:
        command: words of it.
        folder: that it runs in.
        environment: beside that of this process.
    """
    # Processes that outlive the command are counted too.
    ctypes.CDLL(None).prctl(_ADOPT_ORPHANS, 1)
    cpu, start = _cpu_of_children(), time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        check=True,
    )
    wall = time.monotonic() - start
    with contextlib.suppress(ChildProcessError):  # none is left
        while True:
            os.waitpid(-1, 0)
    return Taken(wall, _cpu_of_children() - cpu, done.stdout.decode())


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
