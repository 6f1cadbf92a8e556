"""Quantities of the whole objective at a point: its gradient and its curvature.

Source: Li et al., 2018, arXiv:1712.09913, section 6 and the published code, for the
ratio |smallest / largest| of eigenvalues of the Hessian.

Differences: there the Hessian is that of tensors of more than one dimension, here of
all parameters that require a gradient; and the smallest eigenvalue is that of the
Hessian less the largest one times the identity, not less 0.51 times, so that it is at
the end of the spectrum however the rest lies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch

from steppe.curvature.hessian import Hessian
from steppe.errors import UsageError, check_callable
from steppe.linalg.lanczos import eigsh
from steppe.linalg.operators import AbstractOperator
from steppe.objective import Objective
from steppe.results import Eigenpairs, Estimate
from steppe.vectors import joint_norm

TOL = (
    1e-2  # residual, as a share of the largest eigenvalue or the width of the spectrum
)
CURVATURE = "loss per squared parameter"


@dataclass(frozen=True)
class PointQuantity:
    """A quantity of the objective with the parameters at a point.

    Args:
        name: in results.
        function: called with the objective, whose parameters are those of the point,
            such as a measure of steppe; returns an Estimate, or a number.
        units: of the value.
    """

    name: str
    function: Callable[[Objective], Estimate | float]
    units: str = ""

    def __post_init__(self) -> None:
        check_callable("function", self.function, "returns an Estimate of an Objective")

    def at(self, here: Here) -> Estimate:
        """The value at a point.

        Raises:
            UsageError: a function that returns neither an Estimate nor a number.
        """
        value = self.function(here.objective)
        if isinstance(value, Estimate):
            return value
        try:
            return Estimate(value=float(value))
        except (TypeError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"the function of {self.name} must return a steppe.Estimate or a "
                f"number, got an object of type {type(value).__name__}."
            ) from error


@dataclass(frozen=True)
class Known:
    """A quantity of this file, which shares its work at a point with the others."""

    name: str
    units: str
    value: Callable[[Here], Estimate]

    def at(self, here: Here) -> Estimate:
        """The value at a point."""
        return self.value(here)


class Here:
    """An objective with its parameters at a point, and numbers that it gives there.

    Args:
        objective: evaluated while its parameters stay.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    @cached_property
    def gradient_norm(self) -> Estimate:
        """Euclidean norm of the gradient of the mean loss."""
        return Estimate(value=float(joint_norm(self.objective.gradient())))

    @cached_property
    def top_eigenvalue(self) -> Estimate:
        """Largest eigenvalue of the Hessian."""
        return _value(eigsh(self._hessian, tol=TOL))

    @cached_property
    def smallest_eigenvalue(self) -> Estimate:
        """Smallest eigenvalue of the Hessian, often negative away from a minimum."""
        H, top = self._hessian, self.top_eigenvalue.value
        pairs = eigsh(Shifted(H, top), which="SA", tol=TOL)
        return _value(pairs, top)

    @cached_property
    def eigenvalue_ratio(self) -> Estimate:
        """Smallest over largest eigenvalue, without the sign: 0 is convex."""
        top, smallest = self.top_eigenvalue, self.smallest_eigenvalue
        ratio = abs(smallest.value / top.value) if top.value else float("nan")
        return Estimate(value=ratio, converged=top.converged and smallest.converged)

    @cached_property
    def _hessian(self) -> Hessian:
        return Hessian(self.objective)


class Shifted(AbstractOperator):
    """An operator less a multiple of the identity.

    Args:
        H: symmetric operator.
        shift: the multiple.
    """

    def __init__(self, H: AbstractOperator, shift: float) -> None:
        self._H = H
        self._shift = shift

    @property
    def shape(self) -> tuple[int, int]:
        """(D, D)."""
        return self._H.shape

    @property
    def dtype(self) -> torch.dtype:
        """Of its vectors and products."""
        return self._H.dtype

    @property
    def device(self) -> torch.device:
        """Of its vectors and products."""
        return self._H.device

    def _multiply(self, block: torch.Tensor) -> torch.Tensor:
        return self._H @ block - self._shift * block


def _value(pairs: Eigenpairs, shift: float = 0.0) -> Estimate:
    return Estimate(value=float(pairs.values[0]) + shift, converged=pairs.converged)


KNOWN = {
    each.name: each
    for each in (
        Known("gradient_norm", "loss per parameter", lambda p: p.gradient_norm),
        Known("top_eigenvalue", CURVATURE, lambda p: p.top_eigenvalue),
        Known("smallest_eigenvalue", CURVATURE, lambda p: p.smallest_eigenvalue),
        Known("eigenvalue_ratio", "", lambda p: p.eigenvalue_ratio),
    )
}
