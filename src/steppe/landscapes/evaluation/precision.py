"""Passes in bfloat16 and compiled passes, where they are asked for.

Weights and directions stay in float32 and are rounded when they are used, so that a
step of less than half a unit of rounding, 2^-9 of a weight, changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from steppe.errors import SettingError, brief
from steppe.landscapes.evaluation.strategies import LOSS, OneByOne
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.objective import Objective
from steppe.vectors import joint_norm

LEAST_STEP = 2.0**-9  # of the norm of the weights, that bfloat16 can tell from none
FAILURES = (RuntimeError, TypeError, ValueError, NotImplementedError, OSError)


def check_dtype(
    dtype: torch.dtype | None, objective: Objective, subspace: Subspace
) -> None:
    """Refuse other numbers than bfloat16, and subspaces that it is too coarse for.

    Raises:
        SettingError: another dtype, a network that is not in float32, or eigenvectors.
    """
    if dtype is None:
        return
    if dtype != torch.bfloat16:
        raise SettingError(
            f"dtype must be torch.bfloat16 or None, got {brief(dtype)}; convert the "
            "model for passes in another one."
        )
    if objective.dtype != torch.float32:
        raise SettingError(
            "dtype=torch.bfloat16 must go with a network in torch.float32, got "
            f"{objective.dtype}; leave dtype out."
        )
    if subspace.details.get("subspace") == "eigen":
        raise SettingError(
            "dtype=torch.bfloat16 must not go with a subspace of eigenvectors, whose "
            "steps it rounds away; leave dtype out."
        )


def check_steps(
    subspace: Subspace, coordinates: Sequence[Sequence[float]], dtype: Any
) -> None:
    """Refuse steps that bfloat16 rounds away.

    Args:
        subspace: of the points.
        coordinates: along each axis.
        dtype: of the passes; None for that of the network.

    Raises:
        SettingError: the shortest step along an axis is below 2^-9 of the weights.
    """
    if dtype is None:
        return
    for axis, along in enumerate(coordinates):
        steps = [abs(c) for c in along if c]
        if not steps:
            continue
        point = [0.0] * len(coordinates)
        point[axis] = min(steps)
        there = subspace.point(*point)
        pairs = zip(there, subspace.base, strict=True)
        moved = [(p - b, b) for p, b in pairs if not torch.equal(p, b)]
        weights = float(joint_norm([b for _, b in moved])) if moved else 0.0
        step = float(joint_norm([change for change, _ in moved])) if moved else 0.0
        if step < LEAST_STEP * weights:
            raise SettingError(
                "dtype=torch.bfloat16 rounds steps below 2^-9 of the weights away, got "
                f"one of {step / weights:.2g} at {point[axis]:g} along axis {axis + 1};"
                " leave dtype out."
            )


def passes_in(
    dtype: torch.dtype | None, device: torch.device
) -> AbstractContextManager[Any]:
    """A region whose passes are in bfloat16, or as the network is."""
    if dtype is None:
        return nullcontext()
    return torch.autocast(device.type, dtype=dtype, cache_enabled=False)


def compiled(walk: Walk, single: OneByOne) -> OneByOne:
    """The same passes compiled; as they were where that fails or changes losses.

    Args:
        walk: begun.
        single: passes to compile, without quantities.
    """
    objective = walk.objective
    if objective.mode == "train":
        return single
    losses_on = torch.compile(objective.losses_on)
    walk.go_to(walk.subspace.origin, {})
    batch = objective.batch(0)
    expected = single.values(batch)[LOSS]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the compiler
            losses = losses_on(batch)
    except FAILURES:
        return single
    eps = torch.finfo(expected.dtype).eps ** 0.7
    same = losses.shape == expected.shape and torch.allclose(
        losses, expected, rtol=eps, atol=eps, equal_nan=True
    )
    return OneByOne(walk, losses_on=losses_on) if same else single
