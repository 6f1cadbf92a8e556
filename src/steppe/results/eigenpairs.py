"""Eigenpairs of a symmetric operator.

Shape letters: D parameters in all, K eigenpairs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table


@dataclass(frozen=True, kw_only=True, repr=False)
class Eigenpairs(AbstractTabulated):
    """Some eigenvalues of a symmetric operator with their vectors."""

    values: Tensor  # (K,) descending, float64
    vectors: Tensor  # (D, K) orthonormal columns
    residuals: Tensor  # (K,) norms of H v - value v, float64
    converged: bool  # all residuals within the asked tolerance, or that of rounding
    products: int  # operator-vector products used
    details: Mapping[str, Any] = field(default_factory=dict)  # what it is a function of

    def to_dict(self) -> dict[str, Any]:
        """All fields but the vectors as JSON has them; None for a number not finite."""
        names = (f.name for f in dataclasses.fields(self))
        return {n: plain(getattr(self, n)) for n in names if n != "vectors"}

    def rows(self) -> list[dict[str, float]]:
        """One row for each eigenvalue, the largest first."""
        pairs = zip(self.values.tolist(), self.residuals.tolist(), strict=True)
        return [
            {"number": number, "eigenvalue": value, "residual": residual}
            for number, (value, residual) in enumerate(pairs, 1)
        ]

    def table(self) -> Table:
        """One row for each eigenvalue."""
        cells = [
            [str(row["number"]), f"{row['eigenvalue']:.6g}", f"{row['residual']:.2g}"]
            for row in self.rows()
        ]
        ending = "" if self.converged else "; not all within the asked tolerance"
        note = f"{self.products} products{ending}."
        return Table(("number", "eigenvalue", "residual"), cells, [note])
