"""The loss and other quantities at points of a subspace.

Every batch is loaded once and evaluated at all points. The values at a point are a
function of the objective and the point alone: they have the same bits whichever other
points are evaluated, in one call or in several.

Shape letters: X points, B loss terms of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from steppe.landscapes.buffers import BatchNorm, check_batch_norm, mode_of
from steppe.landscapes.evaluation.moments import Moments
from steppe.landscapes.evaluation.strategies import (
    LOSS,
    OneByOne,
)
from steppe.landscapes.evaluation.strategies import SampleQuantity as SampleQuantity
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.abstract import Point, Subspace
from steppe.measuring.batch_norm import has_statistics
from steppe.objective import Objective
from steppe.results import Cost

Progress = Callable[[int, int], None]  # evaluations of a batch done, and of all


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
        batch_norm: running statistics and all other buffers at a point; None: those
            that the subspace is usually shown with; see `landscape`.
        quantities: beside the loss, means over samples.
    """

    def __init__(
        self,
        objective: Objective,
        subspace: Subspace,
        batch_norm: BatchNorm | None = None,
        quantities: Sequence[SampleQuantity] = (),
    ) -> None:
        self.objective = objective
        self.subspace = subspace
        self.batch_norm = subspace.batch_norm if batch_norm is None else batch_norm
        check_batch_norm(self.batch_norm)
        if objective.mode == "reestimate":
            self.batch_norm = "reestimate"
        self.quantities = tuple(quantities)
        self._base: dict[str, list[Tensor]] | None = None  # of each batch, float64

    @property
    def details(self) -> dict[str, Any]:
        """Settings that the values follow from."""
        return {**self.objective.details, **self._norm()}

    def _norm(self) -> dict[str, str]:
        if self.objective.mode == "train":  # each batch has statistics of its own
            return {}
        mode = mode_of(
            self.batch_norm,
            moving=self.subspace.moves_buffers,
            statistics=any(map(has_statistics, self.objective.model.modules())),
        )
        return {} if mode is None else {"batch_norm": mode}

    def evaluate(
        self, points: Sequence[Point], progress: Progress | None = None
    ) -> list[PointValues]:
        """Values at points, in their order; see the module for their bits.

        Args:
            points: coordinates, one for each axis.
            progress: called with the number of evaluations of a batch done and of all.

        Raises:
            DataError: no loss terms, or another number of them at one of the points.
        """
        if not points:
            return []
        objective = self.objective
        objective.check_repeatable()
        with Walk(objective, self.subspace, self.batch_norm).begun() as walk:
            one_by_one = OneByOne(walk, self.quantities)
            if self._base is None:
                self._base = self._at_base(one_by_one)
            return self._evaluate(one_by_one, self._base, points, progress)

    def _at_base(self, strategy: OneByOne) -> dict[str, list[Tensor]]:
        origin, walk = self.subspace.origin, strategy.walk
        buffers = walk.buffers_at(origin)
        names = (LOSS, *(quantity.name for quantity in self.quantities))
        found: dict[str, list[Tensor]] = {name: [] for name in names}
        for index in range(len(self.objective.batches)):
            walk.go_to(origin, buffers)
            for name, values in strategy.values(index).items():
                found[name].append(values.double())
        self.objective.cost += Cost(forwards=1)
        self.objective.note_terms(sum(map(len, found[LOSS])))
        return found

    def _evaluate(
        self,
        strategy: OneByOne,
        base: Mapping[str, list[Tensor]],
        points: Sequence[Point],
        progress: Progress | None,
    ) -> list[PointValues]:
        walk, objective = strategy.walk, self.objective
        # Before the batches: re-estimated statistics need a pass over the data, and
        # all batches of a point have to see the same ones.
        buffers = [walk.buffers_at(point) for point in points]
        penalties = [walk.penalty_at(point) for point in points]
        # Batches in mode "train" share statistics and random draws.
        dependent = objective.mode == "train"
        moments = {
            name: Moments(len(points), values, dependent=dependent)
            for name, values in base.items()
        }
        count = len(objective.batches)
        for index in range(count):
            done = 0
            for number, values in strategy.on_batch(index, points, buffers):
                for name, each in values.items():
                    moments[name].add(index, done, each)
                done += number
                if progress is not None:
                    progress(index * len(points) + done, count * len(points))
        objective.cost += Cost(forwards=len(points))
        means = {name: each.means().tolist() for name, each in moments.items()}
        errors = {
            name: each.variances().sqrt().tolist() for name, each in moments.items()
        }
        rises = moments[LOSS].rise_variances().sqrt().tolist()
        others = [name for name in moments if name != LOSS]
        return [
            PointValues(
                loss=means[LOSS][i] + penalties[i],
                stderr=errors[LOSS][i],
                rise_stderr=rises[i],
                penalty=penalties[i],
                quantities={name: (means[name][i], errors[name][i]) for name in others},
            )
            for i in range(len(points))
        ]
