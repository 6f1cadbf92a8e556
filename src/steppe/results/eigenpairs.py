"""Eigenpairs of a symmetric operator.

Shape letters: D parameters in all, K eigenpairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Eigenpairs:
    """Some eigenvalues of a symmetric operator with their vectors."""

    values: Tensor  # (K,) descending, float64
    vectors: Tensor  # (D, K) orthonormal columns
    residuals: Tensor  # (K,) norms of H v - value v, float64
    converged: bool  # all residuals within the asked tolerance, or that of rounding
    products: int  # operator-vector products used
    details: Mapping[str, Any] = field(default_factory=dict)  # what it is a function of
