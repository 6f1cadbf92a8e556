"""Subspaces of the parameters: a base point, directions, and the way through them.

Shape letters: P parameter tensors, K directions.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe.batches import digest_of
from steppe.errors import DataError, SettingError, brief
from steppe.landscapes.buffers import BatchNorm, check_same, shapes
from steppe.landscapes.directions.geometry import cosines, length
from steppe.objective import Objective
from steppe.parameters import interpolated
from steppe.surfaces.files.directions import (
    Directions,
    digest_of_tensors,
)
from steppe.surfaces.surface import letters_of

Point = tuple[float, ...]  # coordinates, one for each axis
VARIANCE = "running_var"  # name of the buffer in every batch norm of torch


@dataclass(frozen=True)
class Axis:
    """An axis of a subspace: its unit in words, and a range that shows its shape."""

    unit: str = "distance"  # as figures name it
    range: tuple[float, float] = (-1.0, 1.0)
    named: Mapping[float, str] = field(default_factory=dict)  # networks on the axis


@dataclass(frozen=True, kw_only=True, repr=False)
class Subspace:
    """Points `base + sum of coefficients * directions`; the tensors are copies.

    The coefficients of the directions are the coordinates themselves, but for curves.
    Points that networks are at are those networks bit for bit, which a sum rounds.
    """

    names: tuple[str, ...]  # P parameter names
    base: tuple[Tensor, ...]  # P tensors
    directions: tuple[tuple[Tensor, ...], ...]  # K times P tensors shaped like `base`
    axes: tuple[Axis, ...]
    exact: Mapping[Point, tuple[Tensor, ...]] = field(default_factory=dict)  # P each
    buffers: Mapping[str, Tensor] = field(default_factory=dict)  # at the base, by name
    # Of the point a whole direction away; None for those of the base.
    end_buffers: tuple[Mapping[str, Tensor] | None, ...] = ()
    # Weights of the ends of buffers from coefficients, K rows; empty: they are equal.
    mixing: tuple[tuple[float, ...], ...] = ()
    # Of buffers that move like parameters, K by name; empty where none does.
    buffer_directions: tuple[Mapping[str, Tensor], ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)  # how it was made
    # Coefficients of the directions at a point; None stands for its coordinates.
    course: Callable[[Point], tuple[float, ...]] | None = None

    dimensions: ClassVar[int | None] = None  # of the class, where all have the same
    # Buffers at a point where nothing else is asked.
    batch_norm: BatchNorm = "freeze"

    def __post_init__(self) -> None:
        count = self.dimensions
        if count is not None and len(self.axes) != count:
            raise SettingError(
                f"{type(self).__name__} must have {count} axes, got {len(self.axes)}."
            )

    def __repr__(self) -> str:
        """How it was made, and through how many parameters: one line, no weights."""
        how = "".join(f"{name}={value!r}, " for name, value in self.details.items())
        count = sum(tensor.numel() for tensor in self.base)
        return f"{type(self).__name__}({how}parameters={count})"

    def check_belongs(self, objective: Objective) -> None:
        """Refuse an objective of other parameters or buffers.

        Raises:
            SettingError: the first name or shape that differs.
        """
        wanted = dict(zip(self.names, self.base, strict=True))
        present = dict(zip(objective.names, objective.params, strict=True))
        check_same(shapes(wanted), shapes(present), "parameters")
        if self.buffers:
            own = dict(objective.model.named_buffers())
            check_same(shapes(self.buffers), shapes(own), "buffers")

    def check_numbers(self) -> None:
        """Refuse NaN in the parameters, which has NaN at all points.

        Raises:
            DataError: the first name that has some.
        """
        parts = {"base point": self.base}
        parts |= {f"network at {at}": there for at, there in self.exact.items()}
        parts |= {f"direction {k}": d for k, d in enumerate(self.directions, start=1)}
        for what, tensors in parts.items():
            for name, tensor in zip(self.names, tensors, strict=True):
                if bool(tensor.isnan().any()):
                    raise DataError(
                        f"the {what} of the subspace has NaN in {name}, and so would "
                        "every loss; take a network from before its training diverged."
                    )

    def coefficients(self, point: Point) -> tuple[float, ...]:
        """Coefficients of the K directions at a point."""
        return point if self.course is None else self.course(point)

    @property
    def origin(self) -> Point:
        """Coordinates of the base point."""
        return (0.0,) * len(self.axes)

    def is_base(self, point: Point) -> bool:
        """Whether a point is the base point itself."""
        return point not in self.exact and not any(self.coefficients(point))

    def point(self, *coordinates: float) -> list[Tensor]:
        """Parameters at a point, P tensors.

        Raises:
            SettingError: not one coordinate for each axis.
        """
        if len(coordinates) != len(self.axes):
            raise SettingError(
                f"a point must have {len(self.axes)} coordinates, got "
                f"{brief(coordinates)}."
            )
        place = tuple(map(float, coordinates))
        if place in self.exact:
            return [tensor.clone() for tensor in self.exact[place]]
        weights = [tensor.clone() for tensor in self.base]
        for factor, direction in self.terms(place):
            torch._foreach_add_(weights, list(direction), alpha=factor)
        return weights

    def stored(self) -> Directions:
        """The directions as files have them, for `Surface.save`.

        Raises:
            UsageError: a curve, or an axis that mixes buffers of networks with a
                direction of states.
        """
        from steppe.landscapes.subspaces.saved import stored

        return stored(self)

    @cached_property
    def digests(self) -> dict[str, str]:
        """Starts of the SHA-256 of "weights", "buffers" and "directions".

        The first two are of the base point. Values of a surface belong to them, and to
        no other network that has the same names.
        """
        moving = [*self.end_buffers, *self.buffer_directions]
        along = [digest_of_tensors(each) if each else "" for each in moving]
        weights = dict(zip(self.names, self.base, strict=True))
        return {
            "weights": digest_of_tensors(weights),
            **({"buffers": digest_of_tensors(self.buffers)} if self.buffers else {}),
            "directions": digest_of([self.directions, self.mixing, along]),
        }

    @property
    def moves_buffers(self) -> bool:
        """Whether buffers are others at other points."""
        return any(self.buffer_directions) or any(
            not torch.equal(b, end[name])
            for end in self.end_buffers
            if end is not None
            for name, b in self.buffers.items()
        )

    def geometry(self) -> dict[str, Any]:
        """Lengths of the directions, and cosines of the angles between them.

        Returns:
            "length", and from two directions on "cosine": of each axis, and of each
            pair of axes, by its letters; a number where there is one alone. Empty for
            a curve.
        """
        count = len(self.axes)
        if self.course is not None:
            return {}
        letters = letters_of(count)
        lengths = [length(direction) for direction in self.directions]
        facts: dict[str, Any] = {"length": _alone(dict(zip(letters, lengths)))}
        if count > 1:
            angles = cosines(self.directions)
            pairs = {
                f"{letters[i]}{letters[j]}": float(angles[i, j])
                for i, j in itertools.combinations(range(count), 2)
            }
            facts["cosine"] = _alone(pairs)
        return facts

    def terms(self, point: Point) -> Iterator[tuple[float, tuple[Tensor, ...]]]:
        """Coefficients other than 0 at a point, each with its direction."""
        pairs = zip(self.coefficients(point), self.directions, strict=True)
        return ((factor, direction) for factor, direction in pairs if factor)

    def changed_buffers(self, *coordinates: float) -> dict[str, Tensor]:
        """Buffers at a point that are others than those of the base, by name.

        Between networks they are means of theirs, with weights that are nowhere
        negative: beyond the networks a variance would become negative. Along a
        direction of states they move like parameters, and a running variance is at
        least 0.
        """
        factors = self.coefficients(tuple(map(float, coordinates)))
        changed = self._between_ends(factors)
        moving = [*zip(factors, self.buffer_directions, strict=False)]
        for name in {name: None for _, each in moving for name in each}:
            moved = changed.get(name, self.buffers[name])
            for factor, each in moving:
                if factor and name in each:
                    moved = moved + factor * each[name]
            if name.rpartition(".")[2] == VARIANCE:
                moved = moved.clamp(min=0)  # below, a root of it would be NaN
            if not torch.equal(moved, self.buffers[name]):
                changed[name] = moved
        return changed

    def _between_ends(self, factors: Sequence[float]) -> dict[str, Tensor]:
        ends = self.end_buffers or (None,) * len(self.directions)
        if self.mixing:
            rows = [zip(row, factors, strict=True) for row in self.mixing]
            factors = [sum(share * factor for share, factor in row) for row in rows]
        weights = _within_simplex(factors)
        moving = [
            (weight, end)
            for weight, end in zip(weights, ends, strict=True)
            if end is not None and weight > 0
        ]
        return {
            name: _mean(start, [(weight, end[name]) for weight, end in moving])
            for name, start in self.buffers.items()
            if any(not torch.equal(start, end[name]) for _, end in moving)
        }


def _alone(numbers: dict[str, float]) -> Any:
    return numbers if len(numbers) > 1 else next(iter(numbers.values()))


def _within_simplex(factors: Sequence[float]) -> list[float]:
    """Coefficients without negative ones, and of a sum of at most 1."""
    positive = [max(0.0, factor) for factor in factors]
    total = sum(positive)
    return [factor / total for factor in positive] if total > 1 else positive


def _mean(start: Tensor, ends: Sequence[tuple[float, Tensor]]) -> Tensor:
    """The weighted mean of buffers; the start has the rest of the weight.

    It is exact where one has all of it. Counts and flags have no mean: before an end is
    reached they are those of the start.
    """
    for weight, end in ends:
        if weight == 1:
            return end
    if not start.is_floating_point():
        return start
    if len(ends) == 1:
        return interpolated(start, ends[0][1], ends[0][0])
    # One after the other: equal entries stay bit for bit, also where infinite.
    mean, gathered = start, 1.0 - sum(weight for weight, _ in ends)
    for weight, end in ends:
        gathered += weight
        mean = interpolated(mean, end, weight / gathered)
    return mean
