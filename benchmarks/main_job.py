"""The main job here and at another revision, in turns: CPU time, wall time, rows.

    python -m benchmarks main_job --against REV [--rounds N]

CPU time is that of all processes of the command, those that outlive it included; other
work on the machine changes it little. Wall times mean something on idle cores alone.
Half as much time as 2e68d46 took, with the same rows, was the aim of the first use.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.against import ROOT, extract
from benchmarks.commands import Taken, timed
from benchmarks.timing import Benchmark

BOUND = 1.0
JOB = ("compare", "sgd", "sam", "lpf_sgd", "--json")


def job(source: Path, options: Sequence[str]) -> Taken:
    """Run the job of a source tree in an empty folder."""
    around = {"PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "steppe_lab.cli", *JOB, *options]
    with tempfile.TemporaryDirectory() as folder:
        taken = timed(command, folder, around)
    # At once, as the whole takes minutes and may be cut short.
    print(f"{source}: {taken.wall:.1f} s, CPU time {taken.cpu:.1f} s", flush=True)
    return taken


def benchmarks(revision: str, options: Sequence[str] = ()) -> Iterator[Benchmark]:
    """The one benchmark of the main job.

    Args:
        revision: of this repository, to compare with.
        options: more options of the job.
    """
    run = partial(_compared, revision, options)
    yield Benchmark(f"main job / {revision}", "small_cnn", BOUND, run)


def _compared(revision: str, options: Sequence[str], rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        extract(revision, Path(folder))
        trees = (ROOT, Path(folder))
        pairs = []
        for number in range(rounds):
            order = (0, 1) if number % 2 == 0 else (1, 0)
            taken = {which: job(trees[which], options) for which in order}
            pairs.append((taken[0], taken[1]))
    rows = {each.output for pair in pairs for each in pair}
    assert len(rows) == 1, "the rows of the two differ"
    cpu = [(here.cpu, there.cpu) for here, there in pairs]
    wall = [(here.wall, there.wall) for here, there in pairs]
    return {
        "ratio": _ratio(cpu),
        "ratio_of_wall_times": _ratio(wall),
        "cpu_seconds": cpu,
        "wall_seconds": wall,
        "rounds": rounds,
    }


def _ratio(pairs: Sequence[tuple[float, float]]) -> float:
    here, there = (median(times) for times in zip(*pairs, strict=True))
    return here / there
