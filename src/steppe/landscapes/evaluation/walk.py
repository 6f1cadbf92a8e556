"""The model at points of a subspace, one after the other.

The parameters of a point are always computed from the base point, so nothing drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from steppe.landscapes.buffers import BatchNorm, buffers_of
from steppe.landscapes.evaluation.statistics import refit
from steppe.landscapes.subspaces.abstract import Point, Subspace
from steppe.objective import Objective
from steppe.parameters import (
    BufferSnapshot,
    copy_,
    displace_,
    overwrite_,
    restored,
)
from steppe.seeds import seed_of


class Walk:
    """The model of an objective at points of a subspace.

    Args:
        objective: whose model is moved, and put back bit for bit in the end.
        subspace: of parameters with the names and shapes of those of the objective.
        batch_norm: running statistics and all other buffers at a point; see
            `landscape`.

    Example:
        >>> from steppe.landscapes.subspaces.line import Line
        >>> model = torch.nn.Linear(2, 1)
        >>> objective = Objective(model, (torch.eye(2), torch.ones(2, 1)), "mse")
        >>> with Walk(objective, Line.random(model), "freeze").begun() as walk:
        ...     walk.go_to((0.5,), walk.buffers_at((0.5,)))
        ...     loss = objective.mean_loss()
    """

    def __init__(
        self,
        objective: Objective,
        subspace: Subspace,
        batch_norm: BatchNorm,
    ) -> None:
        self.objective = objective
        self.subspace = subspace
        self.batch_norm = batch_norm
        # Of P parameters each, in the order and on the device of the objective.
        self.base: list[Tensor] = []
        self.directions: list[list[Tensor]] = []
        self._refit = refit_of(objective, batch_norm)
        self._modes = {m: m.training for m in objective.model.modules()}

    @contextmanager
    def begun(self) -> Iterator[Walk]:
        """Bring the subspace to the device; put the model back at the end."""
        objective, subspace = self.objective, self.subspace
        self._params: list[Tensor] = list(objective.params)
        with objective.measuring(), restored(self._params), torch.no_grad():
            self.base = self._ordered(subspace.base)
            self.directions = [self._ordered(each) for each in subspace.directions]
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

    @property
    def buffer_bytes(self) -> int:
        """Bytes that the buffers of a point take, at most; inside `begun()`."""
        if self.batch_norm == "freeze":
            return 0
        return sum(buffer.nbytes for buffer in self._own.values())

    def is_exact(self, point: Point) -> bool:
        """Whether a point is a network of its own and no sum of directions."""
        return point in self._exact

    def terms(self, point: Point) -> list[tuple[float, int]]:
        """Coefficients other than 0 at a point, with the numbers of the directions."""
        factors = self.subspace.coefficients(point)
        return [(factor, number) for number, factor in enumerate(factors) if factor]

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
        if self._refit is None:
            return chosen
        self._at_base.put_back()
        base = buffers_of(self.objective.model)
        self._move(point)
        self._write(chosen)
        # The same augmentations and order at each point, whichever come before it.
        torch.manual_seed(seed_of(self.objective.seed))
        with in_modes(self._modes):
            self._refit(self.objective.model)
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
        overwrite_(self._params, self.base)
        for factor, number in self.terms(point):
            displace_(self._params, self.directions[number], factor)

    def _ordered(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        by_name = dict(zip(self.subspace.names, tensors, strict=True))
        device = self.objective.device
        return [by_name[name].to(device) for name in self.objective.names]

    def _on_device(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: b.to(self.objective.device) for name, b in values.items()}

    def _write(self, values: Mapping[str, Tensor]) -> None:
        copy_([self._own[name] for name in values], list(values.values()))


def refit_of(
    objective: Objective, batch_norm: BatchNorm
) -> Callable[[nn.Module], object] | None:
    """The function that sets the buffers of a model to its weights, None without."""
    if callable(batch_norm):
        return batch_norm
    # In mode "train" each batch has statistics of its own.
    if batch_norm == "reestimate" and objective.mode != "train":
        return partial(refit, objective)
    return None


@contextmanager
def in_modes(modes: Mapping[nn.Module, bool]) -> Iterator[None]:
    """Puts layers into their own modes: some may be frozen by evaluation mode."""
    measured = {module: module.training for module in modes}
    try:
        for module, mode in modes.items():
            module.training = mode
        yield
    finally:
        for module, mode in measured.items():
            module.training = mode
