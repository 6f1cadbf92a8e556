"""Penalties of the weights, as terms of a loss beside those of the samples.

Source: Krogh and Hertz, 1991, NIPS 4, A Simple Weight Decay Can Improve Generalization.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from steppe.errors import check_choice
from steppe.registry.bounds import Range, Ranges, check_bounds


@dataclass(frozen=True)
class L2:
    """The sum of squared weights times a coefficient, as Keras adds it to a loss.

    Its gradient is twice the coefficient times the weights: where all parameters are
    penalised it is `weight_decay = 2 coefficient` of torch's SGD, and of Adam in the
    form that adds it to the gradient; AdamW takes another step. It adds twice the
    coefficient to the diagonal of the Hessian.

    Args:
        coefficient: >= 0.
        parameters: "kernels" penalises tensors of two dimensions or more, which leaves
            out biases and the parameters of norms; "all" penalises all.

    Example:
        >>> weight, bias = torch.ones(2, 3), torch.ones(3)
        >>> float(L2(0.5)([weight, bias])), float(L2(0.5, "all")([weight, bias]))
        (3.0, 4.5)
    """

    bounds: ClassVar[Ranges] = {"coefficient": Range(0.0)}

    coefficient: float
    parameters: Literal["kernels", "all"] = "kernels"

    def __post_init__(self) -> None:
        settings = asdict(self)
        check_choice("parameters", settings.pop("parameters"), ("kernels", "all"))
        check_bounds(settings, self.bounds)

    def __call__(self, parameters: Iterable[Tensor]) -> Tensor:
        """The penalty, shape (), with a graph to the parameters.

        Args:
            parameters: of a model; those that it does not penalise count nothing.
        """
        total = torch.zeros((), device="cpu")
        for p in parameters:
            if self.penalises(p):
                total = total.to(p) + p.square().sum()
        return self.coefficient * total

    def penalises(self, parameter: Tensor) -> bool:
        """Whether a parameter counts."""
        return self.parameters == "all" or parameter.dim() > 1

    def curvature(self, parameter: Tensor) -> float:
        """Second derivative by each entry of a parameter; 0 where it does not count."""
        return 2 * self.coefficient if self.penalises(parameter) else 0.0
