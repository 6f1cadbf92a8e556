"""Timing things against each other on a machine that has other work to do."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch


@dataclass(frozen=True)
class Benchmark:
    """Something measured on a network, as a ratio that is held to a bound."""

    name: str
    model: str
    bound: float
    run: Callable[[int], dict[str, Any]]  # of a number of rounds; gives "ratio"


def ratios(
    subject: Callable[[], object],
    reference: Callable[[], object],
    *,
    rounds: int,
    warmup: int = 1,
    seconds: float = math.inf,
    clock: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Time two things in turns; by default the CPU time of this process, one thread.

    There are as many rounds, or as fit into these seconds, but at least one.

    Taking turns lets drifts of the machine hit both alike; the ratio of the two lower
    quartiles leaves out the rounds that other work disturbed.
    """
    for _ in range(warmup):
        subject()
        reference()
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        if sum(map(sum, times)) > seconds:
            break
        for action, taken in zip((subject, reference), times, strict=True):
            start = clock()
            action()
            taken.append(clock() - start)
    low = [_lower_quartile(taken) for taken in times]
    single = sorted(a / b for a, b in zip(*times, strict=True))
    return {
        "ratio": low[0] / low[1],
        "median_of_ratios": statistics.median(single),
        "subject_seconds": low[0],
        "reference_seconds": low[1],
        "rounds": len(single),
    }


def clock_of(device: str) -> Callable[[], float]:
    """CPU time, or on a GPU the time at which it has done all that was asked of it."""
    if device == "cpu":
        return time.process_time

    def waiting() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return waiting


def _lower_quartile(taken: list[float]) -> float:
    return statistics.quantiles(taken, n=4)[0] if len(taken) > 1 else taken[0]


def surroundings() -> dict[str, Any]:
    """Machine and versions, to be stored beside the numbers."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "steppe": version("steppe"),
        "commit": _commit(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            names = [line for line in file if line.startswith("model name")]
        return names[0].partition(":")[2].strip()
    except (OSError, IndexError):
        return platform.processor()


def _commit() -> str:
    done = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip()
