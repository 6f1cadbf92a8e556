"""The loss and other quantities at points of a subspace.

Every batch is loaded once and evaluated at all points; the parameters of a point are
always computed from the base point, so nothing drifts. The values at a point are a
function of the objective and the point alone: they have the same bits whichever other
points are evaluated, in one call or in several.

Shape letters: X points, B loss terms of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from steppe.landscapes.buffers import BatchNorm, buffers_of
from steppe.landscapes.evaluation.moments import Moments
from steppe.landscapes.subspaces.abstract import Point, Subspace
from steppe.measuring.evaluation import Evaluation
from steppe.objective import Objective
from steppe.parameters import (
    BufferSnapshot,
    copy_,
    displace_,
    overwrite_,
    restored,
)
from steppe.results import Cost

Progress = Callable[[int, int], None]  # evaluations of a batch done, and of all
RISE = "rise"  # of the loss above that at the base point, for the same samples


class SampleQuantity(Protocol):
    """A quantity that is a mean over samples, such as an accuracy."""

    @property
    def name(self) -> str:
        """Of the quantity, in results."""

    @property
    def units(self) -> str:
        """Of the values."""

    def values(self, evaluation: Evaluation) -> Tensor:
        """Values of the samples of a batch that count, shape (samples,)."""


@dataclass(frozen=True)
class PointValues:
    """Values at one point."""

    loss: float  # mean over the terms, and the penalty there
    stderr: float  # over the samples
    rise_stderr: float  # of the loss minus that at the base point
    penalty: float = 0.0
    # Of each quantity beside the loss, the mean and its standard error.
    quantities: Mapping[str, tuple[float, float]] = field(default_factory=dict)


class Evaluator:
    """Evaluates points of a subspace.

    Args:
        objective: the mean loss; its model comes back bit for bit.
        subspace: of parameters with the names and shapes of those of the objective.
        batch_norm: buffers at a point; see `landscape`.
        quantities: beside the loss, means over samples.
    """

    def __init__(
        self,
        objective: Objective,
        subspace: Subspace,
        batch_norm: BatchNorm,
        quantities: Sequence[SampleQuantity] = (),
    ) -> None:
        self.objective = objective
        self.subspace = subspace
        self.batch_norm = batch_norm
        self.quantities = tuple(quantities)
        self._at_origin: list[Tensor] | None = None  # losses of each batch, float64

    def evaluate(
        self, points: Sequence[Point], progress: Progress | None = None
    ) -> list[PointValues]:
        """Values at points, in their order; see the module for their bits.

        Args:
            points: coordinates, one for each axis.
            progress: called with the number of evaluations of a batch done and of all.

        Raises:
            DataError: no loss terms.
        """
        if not points:
            return []
        objective = self.objective
        objective.check_repeatable()
        with _Walk(objective, self.subspace, self.batch_norm).begun() as walk:
            if self._at_origin is None:
                self._at_origin = self._losses_at_origin(walk)
            return self._evaluate(walk, points, progress)

    def _losses_at_origin(self, walk: _Walk) -> list[Tensor]:
        origin = self.subspace.origin
        buffers = walk.buffers_at(origin)
        count = len(self.objective.batches)
        losses = []
        for index in range(count):
            walk.go_to(origin, buffers)
            losses.append(self.objective.batch_values(index).double())
        self.objective.cost += Cost(forwards=1)
        self.objective.note_terms(sum(map(len, losses)))
        return losses

    def _evaluate(
        self, walk: _Walk, points: Sequence[Point], progress: Progress | None
    ) -> list[PointValues]:
        assert self._at_origin is not None
        objective = self.objective
        count, device = len(objective.batches), objective.device
        # Before the batches: re-estimated statistics need a pass over the data, and
        # all batches of a point have to see the same ones.
        buffers = [walk.buffers_at(point) for point in points]
        penalties = [walk.penalty_at(point) for point in points]
        names = ("loss", RISE, *(quantity.name for quantity in self.quantities))
        moments = {name: Moments(len(points), count, device) for name in names}
        for index in range(count):
            for i, point in enumerate(points):
                walk.go_to(point, buffers[i])
                losses, others = self._on_batch(index)
                moments["loss"].add(index, i, losses)
                moments[RISE].add(index, i, losses - self._at_origin[index])
                for name, values in others.items():
                    moments[name].add(index, i, values)
                if progress is not None:
                    progress(index * len(points) + i + 1, count * len(points))
        objective.cost += Cost(forwards=len(points))
        # Batches in mode "train" share statistics and random draws.
        dependent = objective.mode == "train"
        means = {name: each.means().tolist() for name, each in moments.items()}
        errors = {
            name: each.variances(dependent=dependent).sqrt().tolist()
            for name, each in moments.items()
        }
        return [
            PointValues(
                loss=means["loss"][i] + penalties[i],
                stderr=errors["loss"][i],
                rise_stderr=errors[RISE][i],
                penalty=penalties[i],
                quantities={
                    name: (means[name][i], errors[name][i]) for name in names[2:]
                },
            )
            for i in range(len(points))
        ]

    def _on_batch(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Losses of a batch and the values of all other quantities, float64."""
        if not self.quantities:
            return self.objective.batch_values(index).double(), {}
        evaluation = self.objective.evaluation(index)
        values = {q.name: q.values(evaluation).double() for q in self.quantities}
        return evaluation.losses.double(), values


class _Walk:
    """The model at points of a subspace, one after the other."""

    def __init__(
        self, objective: Objective, subspace: Subspace, batch_norm: BatchNorm
    ) -> None:
        self.objective = objective
        self.subspace = subspace
        self.batch_norm = batch_norm
        self._modes = {m: m.training for m in objective.model.modules()}

    @contextmanager
    def begun(self) -> Iterator[_Walk]:
        """Bring the subspace to the device; put the model back at the end."""
        objective, subspace = self.objective, self.subspace
        self._params: list[Tensor] = list(objective.params)
        with objective.measuring(), restored(self._params), torch.no_grad():
            self._base = self._ordered(subspace.base)
            self._directions = {
                id(each): self._ordered(each) for each in subspace.directions
            }
            self._exact = {
                point: self._ordered(each) for point, each in subspace.exact.items()
            }
            self._own = dict(objective.model.named_buffers())
            self._write(self._on_device(subspace.buffers))
            self._at_base = BufferSnapshot(objective.model)
            yield self

    def go_to(self, point: Point, buffers: Mapping[str, Tensor]) -> None:
        """Move the parameters from the base, not the last point, and the buffers."""
        self._move(point)
        # A forward pass may have put other tensors in the place of buffers.
        self._at_base.put_back()
        self._write(buffers)

    def penalty_at(self, point: Point) -> float:
        """The penalty of the objective at a point."""
        if self.objective.penalty is None:
            return 0.0
        self._move(point)
        return self.objective.penalty_value()

    def buffers_at(self, point: Point) -> dict[str, Tensor]:
        """Buffers that are others at a point than at the base.

        They are computed before any batch is evaluated.
        """
        at = self.subspace.origin if self.batch_norm == "freeze" else point
        chosen = self._on_device(self.subspace.changed_buffers(*at))
        if not callable(self.batch_norm):
            return chosen
        self._at_base.put_back()
        base = buffers_of(self.objective.model)
        self._move(point)
        self._write(chosen)
        with _in_modes(self._modes):
            self.batch_norm(self.objective.model)
        estimated = buffers_of(self.objective.model)
        # A tensor of another shape is no statistic but a cache that has grown.
        return {
            name: estimated[name]
            for name, b in base.items()
            if estimated[name].shape == b.shape and not torch.equal(estimated[name], b)
        }

    def _move(self, point: Point) -> None:
        if point in self._exact:  # a sum of directions rounds to another point
            overwrite_(self._params, self._exact[point])
            return
        overwrite_(self._params, self._base)
        for factor, direction in self.subspace.terms(point):
            displace_(self._params, self._directions[id(direction)], factor)

    def _ordered(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        by_name = dict(zip(self.subspace.names, tensors, strict=True))
        device = self.objective.device
        return [by_name[name].to(device) for name in self.objective.names]

    def _on_device(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: b.to(self.objective.device) for name, b in values.items()}

    def _write(self, values: Mapping[str, Tensor]) -> None:
        copy_([self._own[name] for name in values], list(values.values()))


@contextmanager
def _in_modes(modes: Mapping[nn.Module, bool]) -> Iterator[None]:
    """Puts layers into their own modes: some may be frozen by evaluation mode."""
    measured = {module: module.training for module in modes}
    try:
        for module, mode in modes.items():
            module.training = mode
        yield
    finally:
        for module, mode in measured.items():
            module.training = mode
