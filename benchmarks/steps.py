"""A step of each method over the gradients it needs and one step of its base."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import Tensor

import steppe
from benchmarks.problems import Problem, problem, sgd
from benchmarks.timing import Benchmark, clock_of, ratios
from steppe.optimizers import OPTIMIZERS

BOUNDS = {"small_cnn": 1.05, "resnet18": 1.03, "transformer": 1.03}
# Method, gradients per step, and shares of the batch that these are evaluated in. Each
# inner step of Entropy-SGD has a batch of its own, as in its authors' code.
CASES: list[tuple[str, int, int]] = [
    ("sam", 2, 1),
    ("gsam", 2, 1),
    ("msam", 1, 1),
    ("lpf_sgd:micro_batches=8", 1, 8),
    ("lpf_sgd:micro_batches=8,antithetic=true", 1, 8),
    ("smoothout:micro_batches=8", 1, 8),
    ("rwp", 1, 2),
    ("entropy_sgd:inner_steps=5", 5, 1),
]


def _shares(of: Problem, parts: int) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(of.x.tensor_split(parts), of.y.tensor_split(parts), strict=True)


def step_of(
    opt: steppe.optimizers.AbstractOptimizer, of: Problem, *, shares: bool = True
) -> None:
    for _ in opt.passes():
        x, y = opt.take(of.x, of.y) if shares else (of.x, of.y)
        of.loss(x, y).backward()
    opt.step()


def _over_its_gradients(
    method: str,
    gradients: int,
    parts: int,
    name: str,
    rounds: int,
    *,
    device: str = "cpu",
    rows: int | None = None,
    seconds: float = math.inf,
) -> dict[str, Any]:
    of = problem(name, rows).on(device)
    base = sgd(of)
    opt = OPTIMIZERS.build(method, base)

    def reference() -> None:
        """The same gradients: whole, or accumulated over the same shares."""
        for _ in range(gradients):
            base.zero_grad()
            for x, y in _shares(of, parts):
                (of.loss(x, y) / parts).backward()
        base.step()

    found = ratios(
        lambda: step_of(opt, of, shares=parts > 1),
        reference,
        rounds=rounds,
        warmup=1 if device == "cpu" else 3,  # kernels are chosen in the first steps
        seconds=seconds,
        clock=clock_of(device),
    )
    return {**of.facts(), "gradients": gradients, "shares": parts, **found}


def benchmarks(**on: Any) -> Iterator[Benchmark]:
    """Steps on the CPU, or with the device, rows and seconds that are named."""
    for method, gradients, parts in CASES:
        for name, bound in BOUNDS.items():
            run = partial(_over_its_gradients, method, gradients, parts, name, **on)
            yield Benchmark(f"step of {method}", name, bound, run)
