"""Axes of a subspace: orthogonal or as they are, in units of directions or distances.

Shape letters: P parameter tensors, K directions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import torch

from steppe.errors import SettingError, brief, check_choice, check_switch
from steppe.landscapes.directions.geometry import (
    check_independent,
    length,
    orthogonalised,
    scaled,
)
from steppe.landscapes.directions.random import Direction
from steppe.landscapes.subspaces.abstract import Axis, Point, Subspace
from steppe.surfaces.surface import letters_of

Unit = Literal["direction", "absolute"]


def framed(
    fields: Mapping[str, Any],
    *,
    orthogonal: bool = False,
    unit: Unit = "direction",
    parallel: bool = False,
) -> dict[str, Any]:
    """Fields of the same subspace with other axes.

    Args:
        fields: of a subspace whose coefficients are its coordinates.
        orthogonal: each direction less its projections on those before it, after all
            norms. Cosines are below 1e-6 in float32 and float64; in half precision
            those of rounding remain.
        unit: 1 on an axis is a whole "direction", or an "absolute" distance of 1 in the
            space of the parameters.
        parallel: let directions span fewer dimensions than they are.

    Raises:
        SettingError: an unknown unit, no switch, or directions of fewer dimensions.
    """
    check_choice("unit", unit, get_args(Unit))
    check_switch("orthogonal", orthogonal)
    check_switch("parallel", parallel)
    if parallel and orthogonal:
        raise SettingError(
            "orthogonal=True needs directions that are not parallel; leave out "
            "parallel=True."
        )
    if len(fields["directions"]) > 1 and not parallel:
        check_independent(fields["directions"])
    if not orthogonal and unit == "direction":
        return dict(fields)
    directions, lengths, frame = _on_axes(fields, orthogonal=orthogonal, unit=unit)
    exact = {_seen(point, frame): at for point, at in fields.get("exact", {}).items()}
    before = _matrix(fields.get("mixing", ()), len(directions))
    settings = {
        **({"orthogonal": True} if orthogonal else {}),
        **({"unit": unit} if unit == "absolute" else {}),
        **({"networks": [(0.0,) * len(directions), *exact]} if exact else {}),
    }
    moving = tuple(direction.buffers for direction in directions)
    return {
        **fields,
        "directions": tuple(direction.tensors for direction in directions),
        "buffer_directions": moving if fields.get("buffer_directions") else (),
        "axes": tuple(
            _axis(axis, size, unit, [point[k] for point in exact])
            for k, (axis, size) in enumerate(zip(fields["axes"], lengths, strict=True))
        ),
        "exact": exact,
        "mixing": tuple(map(tuple, (before @ frame).tolist())),
        "details": {**fields["details"], **settings},
    }


def _on_axes(
    fields: Mapping[str, Any], *, orthogonal: bool, unit: Unit
) -> tuple[list[Direction], list[float], torch.Tensor]:
    """Directions of the axes, their units, and how they combine those of the fields."""
    count = len(fields["directions"])
    moving = fields.get("buffer_directions") or [{}] * count
    directions = list(map(Direction, fields["directions"], moving))
    frame = torch.eye(count, dtype=torch.float64, device="cpu")
    if orthogonal:
        directions, frame = orthogonalised(directions)
    if unit == "direction":
        return directions, [1.0] * count, frame
    lengths = [length(direction.tensors) for direction in directions]
    if not all(lengths):
        check_independent([direction.tensors for direction in directions])
    pairs = zip(directions, lengths, strict=True)
    units = [scaled(direction, 1 / size) for direction, size in pairs]
    return (
        units,
        lengths,
        frame / torch.tensor(lengths, dtype=torch.float64, device="cpu"),
    )


def joined(parts: Sequence[Subspace]) -> dict[str, Any]:
    """Fields of the subspace with the axes of several, one after the other.

    Raises:
        SettingError: no subspaces of directions, or of other base points.
    """
    for part in parts:
        # A curve's coordinates are no coefficients of its directions.
        if not isinstance(part, Subspace) or part.course is not None:
            raise SettingError(
                "only lines, planes and boxes have axes to join, got "
                f"{brief(part)}; make them with Line.random, Line.between or the like."
            )
    first = parts[0]
    for part in parts[1:]:
        _check_one_base(first, part)
    counts = [len(part.axes) for part in parts]
    starts = [sum(counts[:k]) for k in range(len(counts))]
    total = sum(counts)
    exact = {
        (0.0,) * start + point + (0.0,) * (total - start - len(point)): at
        for start, part in zip(starts, parts, strict=True)
        for point, at in part.exact.items()
    }
    letters = letters_of(total)
    mixing = torch.zeros(total, total, dtype=torch.float64, device="cpu")
    for start, count, part in zip(starts, counts, parts, strict=True):
        inside = slice(start, start + count)
        mixing[inside, inside] = _matrix(part.mixing, count)
    moves_by_direction = any(part.buffer_directions for part in parts)
    return {
        "names": first.names,
        "base": first.base,
        "directions": tuple(d for part in parts for d in part.directions),
        "axes": tuple(axis for part in parts for axis in part.axes),
        "exact": exact,
        "buffers": first.buffers,
        "end_buffers": tuple(
            end
            for part in parts
            for end in part.end_buffers or [None] * len(part.directions)
        ),
        "mixing": tuple(map(tuple, mixing.tolist())),
        "buffer_directions": tuple(
            moving
            for part in parts
            for moving in part.buffer_directions or [{}] * len(part.directions)
        )
        if moves_by_direction
        else (),
        "batch_norm": next(
            (part.batch_norm for part in parts if part.batch_norm != "freeze"), "freeze"
        ),
        "details": {
            "subspace": "joined",
            **{
                "".join(letters[start : start + count]): dict(part.details)
                for start, count, part in zip(starts, counts, parts, strict=True)
            },
        },
    }


def _check_one_base(first: Subspace, other: Subspace) -> None:
    """Refuse subspaces of other parameters, or through other points."""
    others = dict(zip(other.names, other.base, strict=True))
    equal = first.names == other.names and all(
        torch.equal(tensor, others[name].to(tensor.device))
        for name, tensor in zip(first.names, first.base, strict=True)
    )
    if not equal:
        raise SettingError(
            "subspaces that are joined must have one base point, but theirs differ; "
            "make all of them from one model, as it is now."
        )


def _seen(point: Point, frame: torch.Tensor) -> Point:
    """Coordinates of a point on other axes."""
    column = torch.tensor(point, dtype=torch.float64, device="cpu")[:, None]
    solved = torch.linalg.solve_triangular(frame, column, upper=True)
    return tuple(float(value) + 0.0 for value in solved[:, 0])


def _matrix(mixing: Sequence[Sequence[float]], count: int) -> torch.Tensor:
    if not mixing:
        return torch.eye(count, dtype=torch.float64, device="cpu")
    return torch.tensor(mixing, dtype=torch.float64, device="cpu")


def _axis(axis: Axis, size: float, unit: Unit, networks: Sequence[float]) -> Axis:
    low, high = (end * size for end in axis.range)
    return replace(
        axis,
        range=(min(low, *networks), max(high, *networks)) if networks else (low, high),
        unit="distance" if unit == "absolute" else axis.unit,
    )
