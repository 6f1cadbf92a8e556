"""The smallest sum of traces that scales of streams can reach: a geometric program.

A term of trace q between streams s and t counts q (scale[s] / scale[t])^2, so that the
sum is convex in the logarithms of the scales. The scale of stream 0 is 1.

Source: Ibayashi et al., 2021, arXiv:2106.12612, the definition of minimum sharpness;
Newton's method with backtracking: Boyd and Vandenberghe, 2004, Convex Optimization,
sections 4.5 and 9.5. The authors' own loop is in `published_descent`.

Shape letters: J terms, S streams, U unknown logarithms of scales.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steppe.errors import SettingError

FLAT = 1e-13  # slope of the logarithm of the sum at which no step is left to take
MOST = 1000  # steps


@dataclass(frozen=True)
class Term:
    """A trace, and the two streams that scale it."""

    trace: float
    source: int
    target: int
    name: str = "a layer"  # for messages


@dataclass(frozen=True)
class Solution:
    """Scales of the streams, and the sum of the traces there."""

    value: float
    scales: tuple[float, ...]  # (S,)
    iterations: int
    converged: bool
    path: tuple[tuple[int, float], ...] = ()  # steps of a descent, and sums after them


def solve(terms: Sequence[Term], streams: int) -> Solution:
    """Minimize the sum exactly, by Newton's method on its logarithm.

    Args:
        terms: what is added up; a bias lies between stream 0 and its own.
        streams: how many there are.

    Raises:
        SettingError: a trace that is negative or not finite, or a sum that has no
            minimum: a layer with zero trace lets others be as small as one likes.

    Example:
        >>> chain = [Term(8.0, 0, 1), Term(2.0, 1, 0)]
        >>> round(solve(chain, streams=2).value, 12)  # 2 sqrt(8 * 2)
        8.0
    """
    _check(terms, streams)
    counted = [term for term in terms if term.trace > 0]
    if not counted:
        return Solution(0.0, (1.0,) * streams, 0, True)
    moves, logs = exponents(counted, streams), _logs(counted)
    free = _free(counted, streams)
    unknown = moves[:, free]
    x = _start(logs, unknown)
    steps, moved = 0, True
    while moved and steps < MOST:
        before, x = x, _better(logs, unknown, x)
        moved = not torch.equal(x, before)
        steps += moved
    slope = _slope(logs, unknown, x)
    scales = torch.zeros(streams, dtype=torch.float64, device="cpu")
    scales[free] = x
    value = float(_value(logs, unknown, x).exp())
    converged = bool(slope.norm() <= 1e-6)
    return Solution(value, tuple(scales.exp().tolist()), steps, converged)


def _start(logs: Tensor, unknown: Tensor) -> Tensor:
    """Start: scales 1, or those that make all terms most equal, if they are better."""
    zero = torch.zeros(unknown.shape[1], dtype=torch.float64, device="cpu")
    ones = torch.ones(len(logs), 1, dtype=torch.float64, device="cpu")
    wide = torch.cat([unknown, ones], 1)
    # The default driver's order of pivots depends on what the memory held before.
    even: Tensor = torch.linalg.lstsq(wide, -logs, driver="gelsd").solution[:-1]
    return min(zero, even, key=lambda x: float(_value(logs, unknown, x)))


def _better(logs: Tensor, unknown: Tensor, x: Tensor) -> Tensor:
    """One step of Newton's method, on the logarithm of the sum or else on the sum.

    Far from the minimum one term outweighs the others. Its logarithm is straight, so
    that the first has no second derivatives there; the second has.
    """
    weights = (logs + unknown @ x).softmax(0)
    slope = _slope(logs, unknown, x)
    if slope.norm() <= FLAT:
        return x
    second_moment = unknown.T @ (weights.unsqueeze(1) * unknown)
    before = _value(logs, unknown, x)
    for second in (second_moment - torch.outer(slope, slope), second_moment):
        step = -torch.linalg.pinv(second, rtol=1e-14, hermitian=True) @ slope
        promised = -(slope @ step)
        # So near the minimum that values no longer differ, but slopes still do.
        if 0 < promised < 1e-12 and slope.norm() < 1e-5:
            there: Tensor = x + step
            smaller = _slope(logs, unknown, there).norm() < slope.norm() / 2
            return there if smaller else x
        for halving in range(20):
            there = x + step / 2**halving
            gain = before - _value(logs, unknown, there)
            if gain >= 1e-4 * promised / 2**halving > 0:
                return there
    return x


def _slope(logs: Tensor, unknown: Tensor, x: Tensor) -> Tensor:
    slope: Tensor = unknown.T @ (logs + unknown @ x).softmax(0)
    return slope


def _value(logs: Tensor, unknown: Tensor, x: Tensor) -> Tensor:
    value: Tensor = torch.logsumexp(logs + unknown @ x, 0)
    return value


def exponents(terms: Sequence[Term], streams: int) -> Tensor:
    """Exponents: d log(term j) / d log(scale s), shape (J, S)."""
    moves = torch.zeros(len(terms), streams, dtype=torch.float64, device="cpu")
    for row, term in zip(moves, terms, strict=True):
        row[term.source] += 2
        row[term.target] -= 2
    return moves


def _logs(terms: Sequence[Term]) -> Tensor:
    return torch.tensor(
        [math.log(term.trace) for term in terms], dtype=torch.float64, device="cpu"
    )


def _free(terms: Sequence[Term], streams: int) -> list[int]:
    """Free variables: in each strongly connected component one scale is fixed."""
    # Scaling a whole component changes no term in it: without a fixed scale the
    # minimum would be a line, and Newton's matrix singular.
    joined = _reached(terms, streams)
    first = [int(row.int().argmax()) for row in joined & joined.T]
    return [stream for stream in range(streams) if first[stream] != stream]


def _reached(terms: Sequence[Term], streams: int) -> Tensor:
    """Which streams lead to which over terms, shape (S, S), True on the diagonal."""
    reached = torch.eye(streams, dtype=torch.bool, device="cpu")
    for term in terms:
        reached[term.source, term.target] = True
    # Each square doubles the length of the paths that it follows.
    for _ in range(max(1, streams.bit_length())):
        reached = (reached.double() @ reached.double()) > 0
    return reached


def check_traces(terms: Sequence[Term]) -> None:
    """Refuse traces that no sum of squares has.

    Raises:
        SettingError: a trace that is negative or not finite.
    """
    for term in terms:
        if not 0 <= term.trace < math.inf:
            raise SettingError(
                "minimum sharpness needs traces that are finite and >= 0, that of "
                f"{term.name} is {term.trace}; give those of the Gauss-Newton matrix."
            )


def _check(terms: Sequence[Term], streams: int) -> None:
    """Refuse a sum without a minimum: a term that is on no cycle of terms."""
    check_traces(terms)
    reached = _reached([term for term in terms if term.trace > 0], streams)
    for term in terms:
        if term.trace > 0 and not reached[term.target, term.source]:
            zeros = [other.name for other in terms if other.trace == 0]
            cause = (
                f"the trace of {zeros[0]} is zero" if zeros else "a trace is missing"
            )
            raise SettingError(
                f"minimum sharpness is not attained, because {cause}: scaling it up "
                f"and {term.name} down makes the sum as small as one likes; leave such "
                "a layer out of the network, or give data that makes use of it."
            )
