"""All that wants a GPU, in minutes: python -m benchmarks.gpu [--size tiny].

First the tests that are marked gpu, then steps of optimizers, products with the Hessian
and the training loop, each over its reference, with a share of the seconds that are
left. Bounds are those of a CPU and printed beside; only a test that fails is an error.
Without a GPU one sentence says so; `--size tiny` tries the same code on a CPU.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

import steppe
from benchmarks import steps, training
from benchmarks.problems import problem
from benchmarks.timing import Benchmark, clock_of, ratios, surroundings

RESULTS = Path(__file__).parent / "results"
TESTS = ["-m", "pytest", "-q", "-n", "0", "-m", "gpu and not slow"]
BOUND = 2.5  # a product with the Hessian over a gradient


@dataclass(frozen=True)
class Size:
    """How much is measured, and for how long at most.

    Args:
        rows: of a batch.
        rounds: of a benchmark, at most.
        each: benchmarks of a kind, at most.
        seconds: for all of it, the tests included.
        tests: whether tests are run.
    """

    rows: int
    rounds: int
    each: int
    seconds: float
    tests: bool


SIZES = {
    "full": Size(rows=512, rounds=30, each=100, seconds=450.0, tests=True),
    "tiny": Size(rows=16, rounds=1, each=1, seconds=400.0, tests=False),
}


def _product(name: str, rounds: int, device: str, size: Size) -> dict[str, Any]:
    of = problem(name, size.rows).on(device)
    of.model.eval()
    objective = steppe.Objective(of.model, (of.x, of.y), batch_size=len(of.x))
    matrix = steppe.Hessian(objective)
    vector = torch.randn(matrix.shape[0], device=device)

    def gradient() -> None:
        torch.autograd.grad(of.loss(of.x, of.y), of.params())

    found = ratios(
        lambda: matrix @ vector,
        gradient,
        rounds=rounds,
        warmup=2,
        seconds=10.0,
        clock=clock_of(device),
    )
    return {**of.facts(), **found}


def benchmarks(device: str, size: Size) -> Iterator[Benchmark]:
    """Those of each kind in turn."""
    # Trainings first: they say most, and time may be short.
    yield from islice(training.benchmarks(), size.each)
    for name in islice(("small_cnn", "resnet18"), size.each):
        run = partial(_product, name, device=device, size=size)
        yield Benchmark("hessian product over gradient", name, BOUND, run)
    on = {"device": device, "rows": size.rows, "seconds": 4.0}
    yield from islice(steps.benchmarks(**on), size.each)


def _tests_pass(seconds: float) -> bool:
    try:
        return subprocess.run([sys.executable, *TESTS], timeout=seconds).returncode == 0
    except subprocess.TimeoutExpired:
        print(f"the tests took longer than {seconds:.0f} s")
        return False


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu")
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    there = torch.cuda.is_available()
    if not there and args.size != "tiny":
        print("there is no GPU that torch can use here: nothing was run.")
        return 0
    size, device = SIZES[args.size], "cuda" if there else "cpu"
    start = time.monotonic()
    today = datetime.date.today().isoformat()
    out = args.out or RESULTS / f"{device}-{args.size}-{today}.json"
    gpu = torch.cuda.get_device_name() if there else None
    passed = _tests_pass(size.seconds / 2) if there and size.tests else None
    results: list[dict[str, Any]] = []
    record = {"date": today, **surroundings(), "gpu": gpu, "tests_pass": passed}
    for benchmark in benchmarks(device, size):
        left = size.seconds - (time.monotonic() - start)
        if left < 0:
            print("the time is over: the rest is left out")
            break
        found = benchmark.run(size.rounds)
        print(f"{benchmark.name:36} {benchmark.model:12} {found['ratio']:.3f}", end="")
        print(f" (bound on a CPU {benchmark.bound:.3g})", flush=True)
        about = {"benchmark": benchmark.name, "bound_on_cpu": benchmark.bound}
        results.append({**about, "model": benchmark.model, **found})
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(record | {"results": results}, indent=2) + "\n")
    print(f"written to {out}")
    return 1 if passed is False else 0


if __name__ == "__main__":
    sys.exit(main())
