"""Ways to compute the losses of one batch at many points.

Shape letters: B loss terms of a batch, K points at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol

from torch import Tensor

from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.abstract import Point
from steppe.measuring.evaluation import Evaluation, WithoutGraph, evaluated

LOSS = "loss"
Values = dict[str, Tensor]  # the loss and quantities, by name
LossesOn = Callable[[Any], Tensor]  # of a batch
Way = Literal["auto", "one_by_one", "fastest"]


class SampleQuantity(Protocol):
    """A quantity that is a mean over samples, such as an accuracy."""

    @property
    def name(self) -> str:
        """Of the quantity, in results."""

    @property
    def units(self) -> str:
        """Of the values."""

    def values(self, evaluation: Evaluation) -> Tensor:
        """Values of the samples of a batch that count, shape (samples,).

        Their number follows from the batch alone.
        """


class Strategy(Protocol):
    """Computes values of a batch at points."""

    @property
    def name(self) -> str:
        """Of the strategy, in results."""

    def on_batch(
        self,
        index: int,
        points: Sequence[Point],
        buffers: Sequence[Mapping[str, Tensor]],
    ) -> Iterator[tuple[int, Values]]:
        """Values of a batch at points, in their order.

        Args:
            index: of the batch.
            points: to evaluate, within the region of the walk.
            buffers: of each point; see `Walk.buffers_at`.

        Yields:
            The number of points that are done now, and their values, shape (B,) of one
            point and (K, B) of several.
        """


class OneByOne:
    """One point after the other, with nothing in between: the same bits each time.

    Args:
        walk: to the points.
        quantities: beside the loss.
        losses_on: compiled, in place of that of the objective.
    """

    name = "one by one"

    def __init__(
        self,
        walk: Walk,
        quantities: Sequence[SampleQuantity] = (),
        losses_on: LossesOn | None = None,
    ) -> None:
        if losses_on is not None:
            self.name = "compiled"
        self._losses_on = losses_on or walk.objective.losses_on
        self.walk = walk
        self.quantities = quantities
        self._without_graph = WithoutGraph(walk.objective.model)

    def on_batch(
        self,
        index: int,
        points: Sequence[Point],
        buffers: Sequence[Mapping[str, Tensor]],
    ) -> Iterator[tuple[int, Values]]:
        """Values of a batch at points; see `Strategy`."""
        objective = self.walk.objective
        batch = objective.batch(index)
        for point, own in zip(points, buffers, strict=True):
            self.walk.go_to(point, own)
            if objective.mode == "train":  # the same random masks each time
                batch = objective.batch(index)
            yield 1, self.values(batch)

    def values(self, batch: Any) -> Values:
        """Values of a batch on the device, at the present point."""
        objective = self.walk.objective
        losses = partial(self._losses_on, batch)
        if not self.quantities:
            return {LOSS: self._without_graph(losses).detach()}
        evaluation = self._without_graph(
            partial(evaluated, objective.model, batch, losses)
        )
        others = {q.name: q.values(evaluation) for q in self.quantities}
        return {LOSS: evaluation.losses, **others}
