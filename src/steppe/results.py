"""Frozen results: a value with its error, its cost and what it is a function of.

Shape letters: D parameters in all, K eigenpairs, X points along an axis.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Cost:
    """Work done, in passes over the whole data of an objective."""

    forwards: float = 0.0
    gradients: float = 0.0  # a forward and a backward pass each
    products: float = 0.0  # Hessian-vector products

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.forwards + other.forwards,
            self.gradients + other.gradients,
            self.products + other.products,
        )

    def __sub__(self, other: Cost) -> Cost:
        return self + Cost(-other.forwards, -other.gradients, -other.products)


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number, and how far to trust it."""

    value: float
    stderr: float = 0.0  # of `value`; 0.0 when nothing was sampled, inf after one draw
    samples: int = 0  # independent draws behind it; 0 when nothing was sampled
    converged: bool = True  # False when a budget ended before the asked accuracy
    cost: Cost = Cost()
    details: Mapping[str, Any] = field(default_factory=dict)  # what it is a function of

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        error = f" ± {self.stderr:.2g}" if self.stderr else ""
        return f"{self.value:.6g}{error}" + ("" if self.converged else " (unconverged)")


@dataclass(frozen=True, kw_only=True)
class Eigenpairs:
    """Some eigenvalues of a symmetric operator with their vectors."""

    values: Tensor  # (K,) descending, float64
    vectors: Tensor  # (D, K) orthonormal columns
    residuals: Tensor  # (K,) norms of H v - value v, float64
    converged: bool  # all residuals within the asked tolerance
    products: int  # operator-vector products used


@dataclass(frozen=True, kw_only=True)
class Surface:
    """Mean loss at points of a subspace; the stderr is over the data samples."""

    x: tuple[float, ...]  # (X,) coordinates along the first direction
    loss: Tensor  # (X,) float64
    stderr: Tensor  # (X,) float64, standard error of the mean loss over the samples
    samples: int
    details: Mapping[str, Any] = field(default_factory=dict)
