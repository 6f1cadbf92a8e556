"""Random subspaces through the parameters of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

from torch import nn

from steppe.errors import check_choice
from steppe.landscapes.buffers import buffers_of
from steppe.landscapes.directions.geometry import check_independent
from steppe.landscapes.directions.ignoring import Ignore
from steppe.landscapes.directions.norms import UNITS, Norm
from steppe.landscapes.directions.random import moving_buffers, random_direction
from steppe.landscapes.subspaces.abstract import Axis
from steppe.landscapes.subspaces.frames import Unit, framed
from steppe.parameters import trainable

Of = Literal["parameters", "states"]


def random_subspace(
    model: nn.Module,
    seeds: Sequence[int],
    norm: Norm,
    ignore: Ignore,
    of: Of,
    unit: Unit,
    *,
    orthogonal: bool = False,
) -> dict[str, Any]:
    """Fields of a subspace along random directions, one for each seed.

    Args:
        model: its parameters that require a gradient are the base point.
        seeds: of the draws, one for each direction.
        norm: of the directions; see `random_direction`.
        ignore: tensors that stay where they are.
        of: "parameters", or "states" with the buffers that are saved.
        unit: of the axes; see `framed`.
        orthogonal: see `framed`.
    """
    check_choice("of", of, get_args(Of))
    named, buffers = trainable(model), buffers_of(model)
    states = moving_buffers(buffers, [*model.state_dict()]) if of == "states" else {}
    base = {name: p.detach().clone() for name, p in named.items()}
    directions = [random_direction(base, norm, ignore, seed, states) for seed in seeds]
    check_independent([direction.tensors for direction in directions[:1]])
    moving = [
        {name: b for name, b in direction.buffers.items() if bool(b.any())}
        for direction in directions
    ]
    fields = {
        "names": tuple(base),
        "base": tuple(base.values()),
        "directions": tuple(direction.tensors for direction in directions),
        "axes": tuple(Axis(unit=UNITS[norm]) for _ in seeds),
        "buffers": buffers,
        "buffer_directions": tuple(moving) if any(moving) else (),
        # Whoever asks for states wants to see them move.
        "batch_norm": "interpolate" if any(moving) else "freeze",
        "details": {
            "subspace": "random",
            **({"of": of} if of != "parameters" else {}),
            "norm": norm,
            "ignore": ignore if isinstance(ignore, str) else tuple(ignore),
            "seed": seeds[0],
        },
    }
    return framed(fields, orthogonal=orthogonal, unit=unit)
