"""Graphs of batches that are built once and multiplied with many vectors.

Source: Pearlmutter, 1994, doi:10.1162/neco.1994.6.1.147, as a second backward pass
through the retained graph of the gradient; derivatives in a direction as the derivative
of J'u by u, which is linear in u.

Shape letters: D parameters in all, K columns, P parameter tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from itertools import chain

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from steppe.curvature.double_backward.engine import identity
from steppe.curvature.double_backward.mode import FastDoubleBackward
from steppe.curvature.products.autograd import (
    check_differentiable,
    custom_functions,
    differentiate,
)
from steppe.objective import Objective
from steppe.parameters import unflatten
from steppe.results import Cost
from steppe.torch_internals import tree_leaves

ALIGNED = 64  # bytes; memory of a tensor's own is
Metric = Callable[[Tensor], Tensor]  # a symmetric matrix in outputs, by its products


class AbstractBatchProduct(ABC):
    """The curvature of one batch's summed losses."""

    @abstractmethod
    def add_products(self, columns: Tensor, total: Tensor) -> None:
        """Add the products with K rows of `columns` to those of `total`, (K, D)."""


class AbstractProducts(AbstractBatchProduct):
    """A part that multiplies one vector at a time.

    Args:
        params: P tensors to differentiate by.
    """

    def __init__(self, params: Sequence[nn.Parameter]) -> None:
        self._params = params

    @property
    def params(self) -> Sequence[nn.Parameter]:
        """P tensors to differentiate by."""
        return self._params

    @abstractmethod
    def _times(self, pieces: Sequence[Tensor]) -> list[Tensor] | None:
        """Product with a vector in P pieces, in P pieces; None for zeros."""

    def add_products(self, columns: Tensor, total: Tensor) -> None:
        for column, row in zip(columns, total, strict=True):
            # Matrix products round by the alignment of a vector.
            column = column if column.data_ptr() % ALIGNED == 0 else column.clone()
            image = self._times(unflatten(column, self._params))
            if image is not None:
                torch._foreach_add_(unflatten(row, self._params), image)


class AbstractGraph(AbstractProducts):
    """A part that keeps graphs."""

    tensors: Sequence[Tensor]  # whose graphs are kept


class GradientGraph(AbstractGraph):
    """Second derivatives of a sum of losses, by the graph of its gradient.

    Args:
        losses: of one batch, shape (terms,), with their graph.
        params: P tensors to differentiate by.
    """

    def __init__(self, losses: Tensor, params: Sequence[nn.Parameter]) -> None:
        super().__init__(params)
        self._gradient: list[Tensor] = []
        loss = losses.sum()
        if loss.requires_grad:
            # A seed that requires a gradient makes every backward leave its mark, also
            # next to the loss, where the incoming gradient would be a constant.
            seed = torch.ones_like(loss).requires_grad_()
            self._gradient = differentiate((loss,), params, (seed,), keep="graph")
        self.tensors = (loss, *self._gradient)

    def _times(self, pieces: Sequence[Tensor]) -> list[Tensor] | None:
        outputs, weights = _linked(self._gradient, pieces)
        if not outputs:
            return None
        return differentiate(outputs, self._params, weights, keep="retain")


class JacobianGraph(AbstractGraph):
    """J' M J for the derivative J of some outputs by the parameters.

    Args:
        z: outputs of one batch, with their graph.
        metric: gives M w, shaped like z, for w shaped like z.
        params: P tensors to differentiate by.
    """

    def __init__(
        self, z: Tensor, metric: Metric, params: Sequence[nn.Parameter]
    ) -> None:
        super().__init__(params)
        self._metric = metric
        self._z = z
        self._pulled: list[Tensor] = []
        self._u = torch.zeros_like(z, requires_grad=True)
        if z.requires_grad:
            self._pulled = differentiate((z,), params, (self._u,), keep="graph")
        self.tensors = (z, self._u, *self._pulled)

    def _times(self, pieces: Sequence[Tensor]) -> list[Tensor] | None:
        outputs, weights = _linked(self._pulled, pieces)
        if not outputs:
            return None
        # J' u is linear in u, so that its derivative by u along a vector v is J v: a
        # Jacobian-vector product from two backward passes, on a graph that is there.
        (jvp,) = differentiate(outputs, (self._u,), weights, keep="retain")
        weighed = (self._metric(jvp),)
        return differentiate((self._z,), self._params, weighed, keep="retain")


class RetainedGraphs:
    """Cache of the graphs of batches, within a budget and while the model is the same.

    Args:
        objective: its batches are the parts.
        budget: memory for retained graphs, in bytes; 0 keeps none, None has no limit.
    """

    def __init__(self, objective: Objective, budget: int | None) -> None:
        self._objective = objective
        self._budget = budget
        self.custom: list[str] = []  # names of custom functions in the graphs
        self.clear()

    def clear(self) -> None:
        """Let go of all graphs."""
        self.by_batch: dict[int, AbstractGraph] = {}
        self.bytes = 0
        self._full = self._budget == 0
        self._checked = False
        self._snapshot: list[tuple[int, Tensor]] = []

    def get(self, index: int, build: Callable[[], AbstractGraph]) -> AbstractGraph:
        """The graph of a batch, built where it is not in the cache."""
        if index in self.by_batch:
            return self.by_batch[index]
        self._objective.cost += Cost(gradients=1 / len(self._objective.batches))
        if self._full:  # no batch after the first that did not fit is kept either
            return self._build(build)
        held = _Held(self._foreign(index))
        try:
            with saved_tensors_hooks(held.pack, identity):
                graph = self._build(build)
        except RuntimeError as error:
            if "saved tensor hooks" not in str(error):
                raise
            # Transforms of `torch.func` in a loss forbid hooks: what the graph keeps
            # cannot be counted, and fits no budget.
            graph = self._build(build)
            held.bytes = 0 if self._budget is None else self._budget + 1
        for tensor in graph.tensors:
            held.pack(tensor)
        if self._budget is None or self.bytes + held.bytes <= self._budget:
            self.by_batch[index] = graph
            self.bytes += held.bytes
        else:
            self._full = True
        return graph

    def notice_changes(self) -> None:
        """Drop the graphs where a tensor they were built on has another value.

        Values are compared, not versions: writing through `.data` leaves no version.
        """
        model = self._objective.model
        state = [t.detach() for t in chain(model.parameters(), model.buffers())]
        if not _same(state, self._snapshot):
            # A graph holds the tensors of its forward pass: it would go on giving the
            # products of the old weights, without an error.
            self.clear()
            self._snapshot = [(t.data_ptr(), t.clone()) for t in state]

    def _build(self, build: Callable[[], AbstractGraph]) -> AbstractGraph:
        with FastDoubleBackward():
            graph = build()
        if not self._checked:
            check_differentiable(graph.tensors)
            self.custom = custom_functions(graph.tensors)
            self._checked = True
        return graph

    def _foreign(self, index: int) -> set[int]:
        """Storages that are there whether a graph is kept or not."""
        model = self._objective.model
        data = tree_leaves(self._objective.batches[index])
        tensors = chain(model.parameters(), model.buffers(), data)
        return {_pointer(t) for t in tensors if isinstance(t, Tensor)}


class _Held:
    """Counts the bytes that a graph keeps in memory, each storage once."""

    def __init__(self, known: set[int]) -> None:
        self.bytes = 0
        self._known = known

    def pack(self, tensor: Tensor) -> Tensor:
        try:
            place = _pointer(tensor)
        except RuntimeError:  # without memory, such as the zeros of forward derivatives
            return tensor
        if place not in self._known:
            self._known.add(place)
            self.bytes += tensor.untyped_storage().nbytes()
        return tensor


def _pointer(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _same(now: Sequence[Tensor], then: Sequence[tuple[int, Tensor]]) -> bool:
    """Whether tensors have the same places and values; waits for a GPU once."""
    places = [pointer for pointer, _ in then]
    if [tensor.data_ptr() for tensor in now] != places:
        return False
    pairs = list(zip(now, (value for _, value in then), strict=True))
    if any(a.shape != b.shape for a, b in pairs):
        return False
    near = [(a, b) for a, b in pairs if a.device.type == "cpu"]
    apart = [(a != b).any() for a, b in pairs if a.device.type != "cpu"]
    if not all(torch.equal(a, b) for a, b in near):
        return False
    return not apart or not bool(torch.stack([t.to(apart[0]) for t in apart]).any())


def _linked(
    outputs: Sequence[Tensor], weights: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Those outputs that have a graph, and their weights in the same dtype."""
    pairs = [
        (output, weight.to(output.dtype))
        for output, weight in zip(outputs, weights, strict=False)
        if output.requires_grad
    ]
    return [output for output, _ in pairs], [weight for _, weight in pairs]
