"""Noise on the weights over the gradient it is drawn for: one of 8 shares of a batch.

A whole step of LPF-SGD is nearly all gradients, whose own noise on a busy machine is
larger than the difference looked for; here the two are timed apart. The ratio is
1 + noise / gradient. "one write" moves the weights without drawing anything, which is
the least that any noise costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor

from benchmarks.problems import Problem, problem
from benchmarks.timing import Benchmark, ratios
from steppe.noise import filter_noise, uniform_noise
from steppe.parameters import reflect_
from steppe.seeds import stream

BOUNDS = {"small_cnn": 1.05, "resnet18": 1.05, "transformer": 1.10}
SHARES = 8
Moves = Callable[[], object]


def _independent(params: list[Tensor], saved: list[Tensor]) -> Moves:
    noise = filter_noise(saved, 0.002, stream(0))
    return lambda: noise.put_(params, saved)


def _pair(params: list[Tensor], saved: list[Tensor]) -> Moves:
    put = _independent(params, saved)
    return lambda: (put(), reflect_(params, saved))


def _uniform(params: list[Tensor], saved: list[Tensor]) -> Moves:
    noise = uniform_noise(saved, 0.01, "filter", stream(0))
    return lambda: noise.put_(params, saved)


def _one_write(params: list[Tensor], saved: list[Tensor]) -> Moves:
    return lambda: reflect_(params, saved)


# The moves of so many shares.
KINDS: dict[str, tuple[Callable[[list[Tensor], list[Tensor]], Moves], int]] = {
    "independent": (_independent, 1),
    "antithetic": (_pair, 2),
    "uniform": (_uniform, 1),
    "one write": (_one_write, 1),
}


def _over_its_gradient(kind: str, name: str, rounds: int) -> dict[str, Any]:
    whole = problem(name)
    xs, ys = (t.tensor_split(SHARES)[0] for t in (whole.x, whole.y))
    share = Problem(name, whole.model, xs, ys)
    make, moved = KINDS[kind]
    saved = [p.detach().clone() for p in share.params()]
    measured = ratios(make([*share.params()], saved), share.gradient, rounds=rounds)
    return {
        **share.facts(),
        **measured,
        "ratio": 1 + measured["ratio"] / moved,
        "median_of_ratios": 1 + measured["median_of_ratios"] / moved,
    }


def benchmarks() -> Iterator[Benchmark]:
    for kind in KINDS:
        for name, bound in BOUNDS.items():
            run = partial(_over_its_gradient, kind, name)
            yield Benchmark(f"noise, {kind}", name, bound, run)
