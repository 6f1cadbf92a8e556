"""The generalised Gauss-Newton matrix, known by its products with vectors.

Source: Schraudolph, 2002, doi:10.1162/08997660260028683, with the derivative along a
vector from two backward passes instead of a forward one.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from torch import Tensor

from steppe.curvature.gauss_newton import AbstractGaussNewton
from steppe.curvature.products.loss_curvature import loss_hessian_times
from steppe.curvature.products.outputs import outputs_on, split_at_outputs
from steppe.curvature.products.retained import Metric


class GGN(AbstractGaussNewton):
    """Curvature of the loss through the network as if it were linear in its parameters.

    The mean over loss terms of J' H J, with J the derivative of the model's outputs by
    the parameters and H the second derivatives of the losses by the outputs, of any
    loss that is a function of the outputs. For losses convex in the outputs it has no
    negative eigenvalue. It is the Hessian where the network is linear in its
    parameters, and has the Hessian's diagonal where it is linear in each (ReLU). A loss
    that is linear in the outputs, such as nll_loss, has zeros. The settings are those
    of `AbstractCurvature`.

    Raises:
        UsageError: when multiplying, a model that is not called once in the loss, gives
            something else than one tensor or computes the loss itself; weights that the
            loss uses beside the outputs.

    Example:
        >>> import steppe, torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> data = (torch.eye(2), torch.zeros(2, 1))
        >>> G = GGN(steppe.Objective(model, data, loss="mse"))
        >>> (G @ torch.tensor([1.0, 2.0])).tolist()
        [1.0, 2.0]
    """

    kind = "ggn"

    def _diagonal_of(self) -> Literal["ggn"]:
        return "ggn"

    def _outputs(self, batch: Any) -> Tensor:
        return outputs_on(self.objective, batch)

    def _linearised(self, index: int) -> tuple[Tensor, Metric]:
        outputs = split_at_outputs(self.objective, index)
        _ = outputs.output_gradient  # its graph is part of what is kept
        return outputs.z, partial(loss_hessian_times, outputs)
