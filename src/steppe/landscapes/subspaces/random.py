"""Random subspaces through the parameters of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from steppe.landscapes.buffers import buffers_of
from steppe.landscapes.directions.random import Ignore, Norm, random_direction
from steppe.landscapes.subspaces.abstract import Axis
from steppe.parameters import trainable

UNITS = {"filter": "norms of the filters", "layer": "norms of the layers"}


def random_subspace(
    model: nn.Module, seeds: Sequence[int], norm: Norm, ignore: Ignore
) -> dict[str, Any]:
    """Fields of a subspace along random directions, one for each seed.

    Args:
        model: its parameters that require a gradient are the base point.
        seeds: of the draws, one for each direction.
        norm: of the directions; see `random_direction`.
        ignore: tensors that stay where they are.
    """
    named = trainable(model)
    base = [p.detach().clone() for p in named.values()]
    directions = [random_direction(base, norm, ignore, seed) for seed in seeds]
    unit = UNITS.get(norm, "norms of the direction")
    return {
        "names": tuple(named),
        "base": tuple(base),
        "directions": tuple(map(tuple, directions)),
        "axes": tuple(Axis(unit=unit) for _ in seeds),
        "buffers": buffers_of(model),
        "details": {
            "subspace": "random",
            "norm": norm,
            "ignore": ignore,
            "seed": seeds[0],
        },
    }
