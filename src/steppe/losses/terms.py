"""A loss that is a sum of several terms, which can be looked at one by one.

Shape letters: B loss terms of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from steppe.errors import DataError, brief, check_callable


class SumOfTerms:
    """The sum of the terms that a function returns, as the loss of an Objective.

    `landscape(..., quantities="loss_terms")` evaluates each of them apart.

    Args:
        function: called as `function(model, batch)`; returns terms by name, each of one
            value per sample, shape (B,), with its weight in the sum.

    Example:
        >>> import steppe, torch
        >>> def terms(model, batch):
        ...     errors = model(batch)[:, 0].square()
        ...     return {"fit": errors, "size": 0.1 * batch.square().sum(1)}
        >>> model = torch.nn.Linear(2, 1)
        >>> loss = steppe.SumOfTerms(terms)
        >>> objective = steppe.Objective(model, [torch.eye(2)], loss)
        >>> line = steppe.Line.random(model)
        >>> surface = steppe.landscape(objective, line, [0.0], quantities="loss_terms")
        >>> round(float(surface.quantities["loss_size"].values), 6)
        0.1
    """

    def __init__(
        self, function: Callable[[nn.Module, Any], Mapping[str, Tensor]]
    ) -> None:
        check_callable("function", function, "returns the terms of a loss by name")
        self.function = function
        self.__name__ = getattr(function, "__name__", type(function).__name__)
        self.last: dict[str, Tensor] = {}  # of the last call, without a graph

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        """The sum of the terms, shape (B,).

        Raises:
            DataError: no tensors by name, or of different shapes.
        """
        terms = self.function(model, batch)
        tensors = [*terms.values()] if isinstance(terms, Mapping) else []
        shapes = {tuple(t.shape) if isinstance(t, Tensor) else () for t in tensors}
        if len(shapes) != 1 or len(next(iter(shapes))) != 1:
            raise DataError(
                "the function of SumOfTerms must return tensors by name, each of one "
                f"value per sample, shape (B,), got {brief(terms)}."
            )
        self.last = {name: t.detach() for name, t in terms.items()}
        total = tensors[0]
        for tensor in tensors[1:]:
            total = total + tensor
        return total
