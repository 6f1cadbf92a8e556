"""Lengths and angles of directions, and their orthogonalisation.

Sums are in float64, whose rounding is far below cosines of 1e-6.

Shape letters: P tensors, K directions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.landscapes.directions.random import Direction

PARALLEL = 1e-10  # smallest eigenvalue of the cosines of directions that span a plane


def dot(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """Inner product of two directions, each of P tensors."""
    pairs = zip(one, other, strict=True)
    return math.fsum(float((a.double() * b.double()).sum()) for a, b in pairs)


def length(direction: Sequence[Tensor]) -> float:
    """Euclidean length of a direction."""
    return math.sqrt(dot(direction, direction))


def cosines(directions: Sequence[Sequence[Tensor]]) -> Tensor:
    """Cosines of the angles between K directions, shape (K, K), float64.

    Those of a zero direction are NaN.
    """
    count = len(directions)
    gram = torch.zeros(count, count, dtype=torch.float64, device="cpu")
    for i in range(count):
        for j in range(i + 1):
            gram[i, j] = gram[j, i] = dot(directions[i], directions[j])
    lengths = gram.diagonal().sqrt()
    return gram / torch.outer(lengths, lengths)


def check_independent(directions: Sequence[Sequence[Tensor]]) -> None:
    """Refuse directions that span fewer dimensions than they are.

    Raises:
        SettingError: a zero direction, or one that the others have already.
    """
    for number, direction in enumerate(directions, 1):
        if not length(direction):
            raise SettingError(
                f"every direction must move the parameters, but number {number} is "
                "zero; ignore fewer tensors, as with ignore='none', or take networks "
                "that differ."
            )
    if len(directions) < 2:
        return
    angles = cosines(directions)
    if float(torch.linalg.eigvalsh(angles)[0]) < PARALLEL:
        largest = float(angles.tril(-1).abs().max())
        raise SettingError(
            f"the {len(directions)} directions must span {len(directions)} "
            f"dimensions, but they lie in fewer: the largest cosine is {largest:.6f}; "
            "give directions that differ, or allow it with Plane.of(x, y, "
            "parallel=True)."
        )


@torch.no_grad()
def orthogonalised(directions: Sequence[Direction]) -> tuple[list[Direction], Tensor]:
    """Each direction less its projections on those before it (Gram and Schmidt).

    Lengths are what is left: a direction of filter norm has shorter filters then.

    Returns:
        K directions, and how they combine the given ones, shape (K, K), float64: number
        k is the sum over j of entry [j, k] times direction j. Buffers are combined
        alike.
    """
    frame = torch.eye(len(directions), dtype=torch.float64, device="cpu")
    done: list[Direction] = []
    for k, direction in enumerate(directions):
        rest = direction
        for _ in range(2):  # once leaves what rounding has put in
            for j, earlier in enumerate(done):
                share = dot(rest.tensors, earlier.tensors) / dot(
                    earlier.tensors, earlier.tensors
                )
                rest = _less(rest, earlier, share)
                frame[:, k] -= share * frame[:, j]
        done.append(rest)
    return done, frame


def scaled(direction: Direction, factor: float) -> Direction:
    """A multiple of a direction."""
    return Direction(
        tuple(t * factor for t in direction.tensors),
        {name: b * factor for name, b in direction.buffers.items()},
    )


def _less(one: Direction, other: Direction, share: float) -> Direction:
    buffers = dict(one.buffers)
    for name, b in other.buffers.items():
        buffers[name] = buffers.get(name, torch.zeros_like(b)) - share * b
    tensors = zip(one.tensors, other.tensors, strict=True)
    return Direction(tuple(a - share * b for a, b in tensors), buffers)
