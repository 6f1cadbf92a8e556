"""The Hessian of an objective, known by its products with vectors.

Source: Pearlmutter, 1994, doi:10.1162/neco.1994.6.1.147, as a second backward pass
through the retained graph of the gradient: about two gradients' work a product.

Shape letters: D parameters in all, K columns, P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from steppe.curvature.differentiation import (
    check_dense,
    check_differentiable,
    differentiate,
)
from steppe.curvature.precision import twice_differentiable
from steppe.errors import SettingError
from steppe.objective import Objective
from steppe.parameters import flatten, unflatten
from steppe.results import Cost


class Hessian:
    """Second derivatives of the mean loss; `H @ v` costs about two gradients.

    The graphs of the batch gradients are built at the first product and kept while they
    fit the budget; the other batches are computed anew at every product. Parameters,
    frozen ones too, and buffers that change in between are noticed, and the graphs are
    built again. A parameter that has no influence on the loss has zeros.

    Args:
        objective: the mean loss; its parameters, in their order, are the D variables.
        budget: memory for retained graphs, in bytes; 0 keeps none.

    Raises:
        SettingError: a negative budget.

    Example:
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> H = Hessian(Objective(model, data, loss="mse"))
        >>> (H @ torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """

    def __init__(self, objective: Objective, *, budget: int = 2**31) -> None:
        if budget < 0:
            raise SettingError(f"budget must be >= 0 bytes, got {budget}.")
        self.objective = objective
        self.budget = budget
        self.products = 0  # operator-vector products so far
        size = sum(p.numel() for p in objective.params)
        self.shape: tuple[int, int] = (size, size)
        self.close()

    @property
    def dtype(self) -> torch.dtype:
        """Of the products: that of the parameters."""
        return self.objective.dtype

    @property
    def device(self) -> torch.device:
        """Of the products: where the parameters are."""
        return self.objective.device

    def __matmul__(self, other: Tensor, /) -> Tensor:
        """Product with a vector, shape (D,), or a block, shape (D, K).

        Raises:
            SettingError: another shape.
            UsageError: the loss has an operation without a second derivative in torch.
        """
        if other.dim() not in (1, 2) or other.shape[0] != self.shape[0]:
            raise SettingError(
                f"H of shape {self.shape} multiplies a vector ({self.shape[0]},) or a "
                f"block ({self.shape[0]}, K), got {tuple(other.shape)}."
            )
        with self.objective.measuring():
            block = other.to(device=self.device, dtype=self.dtype).detach()
            columns = [block] if block.dim() == 1 else list(block.unbind(1))
            found = self._multiply(columns)
        return found[:, 0] if other.dim() == 1 else found

    def close(self) -> None:
        """Let go of the retained graphs; the next product builds them again."""
        self._kept: dict[int, list[Tensor]] = {}
        self.retained_bytes = 0
        self._full = self.budget == 0
        self._checked = False
        self._snapshot: list[tuple[int, Tensor]] = []

    def _multiply(self, columns: Sequence[Tensor]) -> Tensor:
        objective = self.objective
        self._notice_changes()
        terms = objective.count()
        size = (len(columns), self.shape[0])
        total = torch.zeros(size, dtype=self.dtype, device=self.device)
        with twice_differentiable(objective.model):
            for index in range(len(objective.batches)):
                gradient = self._kept.get(index) or self._gradient(index)
                for row, column in zip(total, columns, strict=True):
                    row += self._product(gradient, column)
        self.products += len(columns)
        objective.cost += Cost(products=len(columns))
        return total.div_(terms).T

    def _product(self, gradient: Sequence[Tensor], vector: Tensor) -> Tensor:
        params = self.objective.params
        pieces = unflatten(vector, params)
        pairs = [
            (g, v.to(g.dtype))
            for g, v in zip(gradient, pieces, strict=True)
            if g.requires_grad
        ]
        if not pairs:
            return torch.zeros_like(vector)
        outputs, weights = zip(*pairs, strict=True)
        return flatten(differentiate(outputs, params, weights, keep="retain"))

    def _gradient(self, index: int) -> list[Tensor]:
        """Gradient of one batch's summed loss with its graph, kept where it fits."""
        self.objective.cost += Cost(gradients=1 / len(self.objective.batches))
        if self._full:
            return self._build(index)
        held = _Held({p.untyped_storage().data_ptr() for p in self.objective.params})
        with saved_tensors_hooks(held.pack, _identity):
            gradient = self._build(index)
        size = held.bytes + sum(g.nbytes for g in gradient)
        if self.retained_bytes + size <= self.budget:
            self._kept[index] = gradient
            self.retained_bytes += size
        else:
            self._full = True
        return gradient

    def _build(self, index: int) -> list[Tensor]:
        params = self.objective.params
        check_dense(self.objective.model)
        loss = self.objective.batch_losses(index).sum()
        if not loss.requires_grad:
            return [torch.zeros_like(p) for p in params]
        # A seed that requires a gradient makes every backward leave its mark, also
        # next to the loss, where the incoming gradient would be a constant.
        seed = torch.ones_like(loss).requires_grad_()
        gradient = differentiate((loss,), params, (seed,), keep="graph")
        if not self._checked:
            check_differentiable(gradient)
            self._checked = True
        return gradient

    def _notice_changes(self) -> None:
        """Drop the graphs where a tensor they were built on has another value.

        Values are compared, not versions: writing through `.data` leaves no version.
        """
        model = self.objective.model
        state = [t.detach() for t in chain(model.parameters(), model.buffers())]
        old = self._snapshot
        if len(state) != len(old) or not all(map(_same, state, old)):
            self.close()
            self._snapshot = [(t.data_ptr(), t.clone()) for t in state]


class _Held:
    """Counts the bytes a graph keeps, each storage once."""

    def __init__(self, known: set[int]) -> None:
        self.bytes = 0
        self._known = known

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._known:
            self._known.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def _identity(tensor: Tensor) -> Tensor:
    return tensor


def _same(now: Tensor, then: tuple[int, Tensor]) -> bool:
    pointer, value = then
    return now.data_ptr() == pointer and torch.equal(now, value)
