"""A number with its standard error, its cost and its settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
    refusal: str = ""  # why it could not be measured; the value is NaN then

    def __float__(self) -> float:
        return self.value

    def __str__(self) -> str:
        if self.refusal:
            return f"not measured: {self.refusal}"
        error = f" ± {self.stderr:.2g}" if self.stderr else ""
        return f"{self.value:.6g}{error}" + ("" if self.converged else " (unconverged)")
