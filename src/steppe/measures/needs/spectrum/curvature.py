"""Matrices of second derivatives that measures share, and numbers read off them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from steppe.curvature.fisher import EmpiricalFisher, Fisher
from steppe.curvature.ggn import GGN
from steppe.curvature.hessian import Hessian
from steppe.curvature.operator import AbstractCurvature
from steppe.linalg.operators import Rescaled
from steppe.linalg.protocols import LinearOperator
from steppe.measures.measurement import Measurement, Need
from steppe.objective import Objective
from steppe.parameters import flatten
from steppe.results import Estimate
from steppe.symmetries.balancing import balancing_scales

Scale = Literal["raw", "balanced"]
Matrix = Literal["hessian", "fisher", "ggn", "empirical_fisher"]
MATRICES = {"fisher": Fisher, "ggn": GGN, "empirical_fisher": EmpiricalFisher}


@dataclass(frozen=True)
class HessianOfLoss(Need[Hessian]):
    """The Hessian of the mean loss, whose retained graphs serve all its products."""

    kind: ClassVar[str] = "Hessian"

    def serve(self, measurement: Measurement) -> Hessian:
        """Make it, and the graphs that all products share."""
        hessian = Hessian(measurement.objective)
        # Now, so that the first measure that multiplies does not pay for the others.
        hessian.prepare()
        return hessian


@dataclass(frozen=True)
class ScaledHessian(Need[LinearOperator]):
    """The Hessian in the coordinates of a scale.

    Args:
        scale: "raw" for the parameters as they are, "balanced" for parameters in units
            of the length of their filter (`balancing_scales`), where it is S H S.
    """

    kind: ClassVar[str] = "Hessian"

    scale: Scale = "raw"

    def serve(self, measurement: Measurement) -> LinearOperator:
        """Change the coordinates."""
        hessian = measurement.of(HessianOfLoss())
        if self.scale == "raw":
            return hessian
        return Rescaled(hessian, balanced_scales(measurement.objective))


@dataclass(frozen=True)
class ExactTrace(Need[Estimate | None]):
    """The trace of the Hessian without drawing; None where that is not known."""

    kind: ClassVar[str] = "exact trace"

    scale: Scale = "raw"

    def serve(self, measurement: Measurement) -> Estimate | None:
        """Ask the Hessian: a backward pass for each output of a ReLU network."""
        hessian = measurement.of(HessianOfLoss())
        if self.scale == "raw":
            return hessian.exact_trace()
        diagonal = hessian.exact_diagonal()
        if diagonal is None:
            return None
        squares = balanced_scales(measurement.objective).double().square()
        return Estimate(value=float(squares @ diagonal.values.double()))


def balanced_scales(objective: Objective) -> Tensor:
    """Length of the filter of each parameter, shape (D,)."""
    params = objective.params
    scales = balancing_scales(objective.model, params)
    pairs = zip(scales, params, strict=True)
    return flatten([scale.expand_as(p) for scale, p in pairs]).to(objective.dtype)


@dataclass(frozen=True)
class AlongParameters(Need[float]):
    """The quadratic form t' M t of a matrix M at the parameters t themselves.

    Args:
        matrix: "hessian", "fisher" of the model's predictions, "ggn", or
            "empirical_fisher" of the targets given.
    """

    kind: ClassVar[str] = "product with the parameters"

    matrix: Matrix

    def serve(self, measurement: Measurement) -> float:
        """One product."""
        if self.matrix == "hessian":
            return _along_parameters(measurement.of(HessianOfLoss()))
        # One product alone, so that its graphs need not be kept.
        made = MATRICES[self.matrix](measurement.objective, backend="recompute")
        return _along_parameters(made)


def _along_parameters(matrix: AbstractCurvature) -> float:
    parameters = flatten([p.detach() for p in matrix.params]).to(matrix.dtype)
    return float(parameters.double() @ (matrix @ parameters).double())
