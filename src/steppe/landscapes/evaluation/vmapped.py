"""Several points at once, by `torch.func.vmap` over their weights.

It pays where the time goes into calls and not into arithmetic: small networks, few
samples, accelerators. Values differ from those of one point after the other by
rounding, and may do so with the number of points evaluated together.

Shape letters: K points at once, B loss terms of a batch.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from steppe.errors import SteppeError
from steppe.landscapes.evaluation.strategies import LOSS, Strategy, Values
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.abstract import Point
from steppe.results import Cost

AT_ONCE = (4, 16, 64)
SPENT = 0.05  # of the evaluations of a job, at most, that go into trying one number
REPEATS = 3
GAIN = 0.9  # of the time of one point after the other, at most, for it to be worth it
BYTES = 2**29  # of weights and of the largest outputs of a layer for all points at once
FAILURES = (RuntimeError, TypeError, ValueError, NotImplementedError, SteppeError)
Buffers = Sequence[Mapping[str, Tensor]]


class Vmapped:
    """K points at once; those that are networks of their own or have buffers go singly.

    Args:
        walk: to the points, begun.
        single: for points one after the other.
        at_once: number K of points.
    """

    def __init__(self, walk: Walk, single: Strategy, at_once: int) -> None:
        self.walk = walk
        self._single = single
        self._at_once = at_once
        self._losses = _Losses(walk)
        self._fails = False

    @property
    def name(self) -> str:
        """Of the strategy, in results."""
        return self._single.name if self._fails else f"vmapped by {self._at_once}"

    def on_batch(
        self, index: int, points: Sequence[Point], buffers: Buffers
    ) -> Iterator[tuple[int, Values]]:
        """Values of a batch at points; see `Strategy`."""
        for start, stop in self._runs(points, buffers):
            losses = self._tried(index, points[start:stop], buffers[start:stop])
            if losses is None:
                yield from self._single.on_batch(
                    index, points[start:stop], buffers[start:stop]
                )
            else:
                yield stop - start, {LOSS: losses}

    def losses(self, index: int, points: Sequence[Point]) -> Tensor:
        """Losses of a batch at points, shape (K, B)."""
        self.walk.go_to(self.walk.subspace.origin, {})
        batch = self.walk.objective.batch(index)
        return self._losses.at(points, batch)

    def agrees(self, index: int, points: Sequence[Point]) -> bool:
        """Whether losses are those of one point after the other, but for rounding."""
        together = self.losses(index, points)
        singly = self._single.on_batch(index, points, [{} for _ in points])
        alone = torch.stack([values[LOSS] for _, values in singly])
        if together.shape != alone.shape:
            return False
        eps = torch.finfo(alone.dtype).eps
        return torch.allclose(
            together, alone, rtol=eps**0.7, atol=eps**0.7, equal_nan=True
        )

    def _tried(
        self, index: int, points: Sequence[Point], buffers: Buffers
    ) -> Tensor | None:
        if self._fails or len(points) < 2:
            return None
        try:
            return self.losses(index, points)
        except FAILURES:  # of a batch of another kind than the first one
            self._fails = True
            return None

    def _runs(
        self, points: Sequence[Point], buffers: Buffers
    ) -> Iterator[tuple[int, int]]:
        """Ends of blocks that are evaluated together, or of single points."""
        start = 0
        for place, (point, own) in enumerate(zip(points, buffers, strict=True)):
            alone = bool(own) or self.walk.is_exact(point)
            if place > start and (alone or place - start == self._at_once):
                yield start, place
                start = place
            if alone:
                yield place, place + 1
                start = place + 1
        if start < len(points):
            yield start, len(points)


class _Losses(nn.Module):
    """Losses of a batch as a function of the weights."""

    def __init__(self, walk: Walk) -> None:
        super().__init__()
        self.model = walk.objective.model
        self._walk = walk

    def forward(self, batch: Any) -> Tensor:
        return self._walk.objective.losses_on(batch)

    def at(self, points: Sequence[Point], batch: Any) -> Tensor:
        """Losses at points, shape (K, B)."""
        walk = self._walk
        names = walk.objective.names
        # A row of coefficients for each point, so that one product moves a tensor.
        rows = [walk.subspace.coefficients(point) for point in points]
        weights = {
            f"model.{name}": _moved(base, [d[i] for d in walk.directions], rows)
            for i, (name, base) in enumerate(zip(names, walk.base, strict=True))
        }

        def losses(values: dict[str, Tensor]) -> Tensor:
            terms: Tensor = functional_call(self, values, (batch,))
            return terms

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            together: Tensor = vmap(losses, randomness="error")(weights)
        return together


def _moved(
    base: Tensor, directions: Sequence[Tensor], rows: Sequence[Sequence[float]]
) -> Tensor:
    """A parameter at K points, shape (K, *its own)."""
    moved = base.expand(len(rows), *base.shape).clone()
    factors = torch.tensor(rows, dtype=base.dtype, device=base.device)
    for number, direction in enumerate(directions):
        column = factors[:, number].view(-1, *[1] * base.dim())
        moved.addcmul_(column, direction.unsqueeze(0))
    return moved


def fastest(
    walk: Walk, single: Strategy, points: Sequence[Point], largest: int
) -> Strategy:
    """The fastest strategy on the first batch, one point after the other among them.

    Numbers of points are tried in turn while that takes less than a tenth of the job
    and their weights and outputs fit into 512 MiB.

    Args:
        walk: to the points, begun.
        single: one point after the other.
        points: of the job.
        largest: bytes of the largest outputs of a layer on the first batch.
    """
    free = [point for point in points if not walk.is_exact(point)]
    objective = walk.objective
    if objective.mode == "train" or walk.buffer_bytes:
        return single
    job = len(points) * len(objective.batches)
    weights = sum(base.nbytes for base in walk.base)
    best, least = single, None
    for at_once in AT_ONCE:
        fits = at_once * max(weights, largest) <= BYTES
        if at_once > len(free) or (2 + REPEATS) * at_once > SPENT * job or not fits:
            break
        tried, block = Vmapped(walk, single, at_once), free[:at_once]
        objective.cost += Cost(
            forwards=(2 + REPEATS) * at_once / len(objective.batches)
        )
        try:
            if not tried.agrees(0, block):
                break
            taken = _seconds(walk, partial(tried.losses, 0, block))
        except FAILURES:
            break
        if least is None:
            least = GAIN * _seconds(walk, partial(_run, single, block)) / at_once
        if taken / at_once < least:
            best, least = tried, taken / at_once
    return best


def _run(strategy: Strategy, points: Sequence[Point]) -> None:
    for _ in strategy.on_batch(0, points, [{} for _ in points]):
        pass


def _seconds(walk: Walk, action: Callable[[], object]) -> float:
    """Least time of a few runs of an action that has run before.

    On a CPU it is the time of this process, which no other one disturbs.
    """
    device = walk.objective.device

    def settled() -> float:
        if device.type == "cpu":
            return time.process_time()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    times = []
    for _ in range(REPEATS):
        start = settled()
        action()
        times.append(settled() - start)
    return min(times)
