"""A step of each method over the same step of another revision, in one run.

    python -m benchmarks steps --against REV [--seconds S]

Each version has a process of its own. They take turns, and who is first alternates, so
that drifts of the machine hit both alike. Times are CPU times of the processes. Batches
are small, so that the share of the optimizer in a step is large.

`whole_ratio` is the ratio of the medians of whole steps. Nearly all of a step are the
gradients, which are the same for both and whose noise on a busy machine is larger than
the bound. So steps whose gradients are copied are timed too, and `ratio`, which is held
to the bound, is 1 + the difference of their medians over a whole step. Both have an
interval of 95 % from resampled rounds.
"""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from benchmarks.timing import Benchmark

ROOT = Path(__file__).resolve().parents[1]
BOUND = 1.01
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "sam": ("SAM", {}),
    "gsam": ("GSAM", {}),
    "lpf_sgd:micro_batches=8": ("LPFSGD", {"micro_batches": 8}),
    "msam": ("MSAM", {}),
}
ROWS = {"small_cnn": 32, "resnet18": 8, "transformer": 8}
SHORTEST = 0.05  # seconds of CPU time in one turn: what is faster is repeated
LONG = 0.5  # seconds beside which first calls cost little
Rounds = list[tuple[float, float]]  # seconds per step, here and there


class Version:
    """A process that takes steps with the steppe of one source tree."""

    def __init__(self, source: Path) -> None:
        path = os.pathsep.join([str(source / "src"), str(ROOT)])
        self._process = subprocess.Popen(
            [sys.executable, str(ROOT / "benchmarks" / "step_worker.py")],
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Version:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send one order and wait for the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def seconds(self, kind: str, steps: int) -> float:
        """CPU time per step."""
        return float(self.ask(kind=kind, steps=steps)["seconds"])


def benchmarks(revision: str, seconds: float) -> Iterator[Benchmark]:
    """One for each method and network; to be run before the next is asked for.

    Args:
        revision: of this repository, to compare with.
        seconds: CPU time for each of them.
    """
    with ExitStack() as stack:
        there = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        extract(revision, there)
        pair = [stack.enter_context(Version(source)) for source in (ROOT, there)]
        for method in METHODS:
            for network in ROWS:
                run = partial(_compared, pair, method, network, seconds)
                yield Benchmark(f"{method} / {revision}", network, BOUND, run)


def extract(revision: str, folder: Path) -> None:
    """Write the files of a revision into a folder."""
    command = ["git", "-C", str(ROOT), "archive", revision, "src"]
    done = subprocess.run(command, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")


def _compared(
    pair: list[Version], method: str, network: str, seconds: float, _: int
) -> dict[str, Any]:
    name, settings = METHODS[method]
    order = {"method": name, "settings": settings}
    facts = [v.ask(network=network, rows=ROWS[network], **order) for v in pair]
    here, there = (each.pop("from") for each in facts)
    assert here != there, "both processes have imported the same steppe"
    whole = _in_turns(pair, "whole", 0.5 * seconds)
    alone = _in_turns(pair, "alone", 0.5 * seconds)
    return {
        **facts[0],
        "ratio": ratio(whole, alone),
        "ratio_interval": interval(ratio, whole, alone),
        "whole_ratio": whole_ratio(whole, alone),
        "whole_ratio_interval": interval(whole_ratio, whole, alone),
        "step_seconds": [median(times) for times in zip(*whole, strict=True)],
        "method_seconds": [median(times) for times in zip(*alone, strict=True)],
        "rounds": len(whole),
        "method_rounds": len(alone),
    }


def _in_turns(pair: list[Version], kind: str, seconds: float) -> Rounds:
    first = max(version.seconds(kind, 1) for version in pair)
    if first < LONG:  # much of it was the first call's own
        first = max(version.seconds(kind, 1) for version in pair)
    steps = max(1, round(SHORTEST / first))
    count = max(4, round(seconds / (2 * steps * first)))
    rounds = []
    for number in range(count):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        taken = {which: pair[which].seconds(kind, steps) for which in order}
        rounds.append((taken[0], taken[1]))
    return rounds


def whole_ratio(whole: Rounds, _: Rounds) -> float:
    """Ratio of the medians of whole steps."""
    here, there = (median(times) for times in zip(*whole, strict=True))
    return here / there


def ratio(whole: Rounds, alone: Rounds) -> float:
    """1 + what the method alone takes longer, over a whole step of the other."""
    here, there = (median(times) for times in zip(*alone, strict=True))
    return 1 + (here - there) / median(times[1] for times in whole)


def interval(
    statistic: Callable[[Rounds, Rounds], float], whole: Rounds, alone: Rounds
) -> list[float]:
    """Interval of 95 % of a statistic, by resampling rounds 2000 times."""
    draw = random.Random(0)
    values = [
        statistic(*(draw.choices(each, k=len(each)) for each in (whole, alone)))
        for _ in range(2000)
    ]
    cuts = quantiles(values, n=40)
    return [cuts[0], cuts[-1]]
