"""The mean loss at points of a subspace.

Shape letters: X points along an axis.
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
class Surface(AbstractTabulated):
    """Mean loss at points of a subspace; the stderr is over the data samples."""

    x: tuple[float, ...]  # (X,) coordinates along the first direction
    loss: Tensor  # (X,) float64
    stderr: Tensor  # (X,) float64, standard error of the mean loss over the samples
    samples: int
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        fields = dataclasses.fields(self)
        return {f.name: plain(getattr(self, f.name)) for f in fields}

    def rows(self) -> list[dict[str, float]]:
        """One row for each point."""
        points = zip(self.x, self.loss.tolist(), self.stderr.tolist(), strict=True)
        return [{"x": x, "loss": loss, "stderr": error} for x, loss, error in points]

    def table(self) -> Table:
        """One row for each point."""
        cells = [[f"{number:.5g}" for number in row.values()] for row in self.rows()]
        return Table(("x", "loss", "standard error"), cells)
