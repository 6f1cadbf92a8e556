"""The Hessian of an objective, known by its products with vectors.

Source: Pearlmutter, 1994, doi:10.1162/neco.1994.6.1.147, as a second backward pass
through the retained graph of the gradient: about two gradients' work a product.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from steppe.curvature.double_backward.corrections import padded_tables
from steppe.curvature.operator import AbstractCurvature
from steppe.curvature.products.finite_differences import GradientDifferences
from steppe.curvature.products.functional import GradientMap
from steppe.curvature.products.retained import AbstractBatchProduct, GradientGraph


class Hessian(AbstractCurvature):
    """Second derivatives of the mean loss; `H @ v` costs about two gradients.

    The settings are those of `AbstractCurvature`.

    Example:
        >>> import steppe, torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> H = Hessian(steppe.Objective(model, data, loss="mse"))
        >>> (H @ torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """

    kind = "hessian"

    def _diagonal_of(self) -> Literal["hessian"]:
        return "hessian"

    def _batch_product(self, index: int) -> AbstractBatchProduct:
        objective = self.objective
        if self.backend == "func":
            functional = self._functional(objective.losses_on)
            return GradientMap(functional, partial(objective.batch, index))
        if self.backend == "finite_difference":
            run = partial(objective.batch_losses, index)
            padded = padded_tables(objective.model)
            return GradientDifferences(run, self.params, padded)
        return self._graphs.get(
            index, lambda: GradientGraph(objective.batch_losses(index), self.params)
        )
