"""The diagonal of a symmetric operator.

Shape letters: D parameters in all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from steppe.cost import Cost
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table


@dataclass(frozen=True, kw_only=True, repr=False)
class Diagonal(AbstractTabulated):
    """The diagonal of a symmetric operator."""

    values: Tensor  # (D,)
    stderr: Tensor  # (D,) of the values; zeros when nothing was sampled
    samples: int  # independent draws; 0 when nothing was sampled
    converged: bool = True  # False when a budget ended before the asked accuracy
    cost: Cost = field(default_factory=Cost)
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {**plain({**fields, "cost": dataclasses.asdict(self.cost)})}

    def table(self) -> Table:
        """Where the values lie."""
        ordered = self.values.sort().values
        places = {"smallest": 0, "median": (len(ordered) - 1) // 2, "largest": -1}
        parts = {name: float(ordered[place]) for name, place in places.items()}
        parts["mean"] = float(self.values.double().mean())
        error = float(self.stderr.double().square().mean().sqrt())
        exact = "exact" if not self.samples else f"standard errors of about {error:.2g}"
        ending = "" if self.converged else ", above what was asked"
        return Table(
            ("parameters", "value"),
            [(name, f"{value:.6g}") for name, value in parts.items()],
            [f"{len(self.values)} parameters, {exact}{ending}."],
        )
