"""Quantiles over surfaces of one grid, such as those along random lines.

Shape letters: S surfaces, X points along the first axis, Y along the second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from steppe.errors import SettingError, brief, check_range
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table
from steppe.surfaces.surface import Surface


@dataclass(frozen=True, kw_only=True, repr=False)
class Band(AbstractTabulated):
    """Surfaces on one grid and the same samples, and quantiles over them.

    A value that is NaN counts as larger than all others: it is a loss beyond what
    numbers of its precision hold.
    """

    surfaces: tuple[Surface, ...]  # S
    levels: tuple[float, float] = (0.1, 0.9)  # of the lower and the upper end
    details: Mapping[str, Any] = field(default_factory=dict)  # common to all

    def __post_init__(self) -> None:
        if not self.surfaces:
            raise SettingError("a band needs at least one surface.")
        grids = {surface.coordinates for surface in self.surfaces}
        if len(grids) > 1:
            raise SettingError(
                "the surfaces of a band must have the same coordinates, got "
                f"{len(grids)} different grids."
            )
        check_levels(self.levels)

    @property
    def x(self) -> tuple[float, ...]:
        """Coordinates along the first axis, X of them."""
        return self.surfaces[0].x

    @property
    def median(self) -> Tensor:
        """Median of the loss at every point, shape (X,) on a line, float64."""
        return self.quantile(0.5)

    @property
    def low(self) -> Tensor:
        """Lower end of the band of the loss, shaped like the median."""
        return self.quantile(self.levels[0])

    @property
    def high(self) -> Tensor:
        """Upper end of the band of the loss, shaped like the median."""
        return self.quantile(self.levels[1])

    def quantile(self, level: float, name: str = "loss") -> Tensor:
        """A quantile over the surfaces at every point, float64.

        It is linear between order statistics (Hyndman and Fan, 1996,
        doi:10.2307/2684934, type 7), as in numpy.

        Args:
            level: between 0, the smallest, and 1, the largest.
            name: "loss", or a quantity that all surfaces have.

        Raises:
            SettingError: a level out of range, or a quantity that is none of theirs.
        """
        check_range("level", level, 0, 1)
        values = torch.stack([_values(surface, name) for surface in self.surfaces])
        ordered = values.nan_to_num(nan=math.inf, posinf=math.inf, neginf=-math.inf)
        ordered = ordered.sort(dim=0).values
        place = level * (len(ordered) - 1)
        below = ordered[math.floor(place)]
        share = place - math.floor(place)
        if not share:
            return below
        above = ordered[math.ceil(place)]
        # Equal infinite ends have no difference.
        return torch.where(below == above, below, below + share * (above - below))

    def rows(self) -> list[dict[str, Any]]:
        """One row for each point, x changing fastest."""
        columns = {"median": self.median, "low": self.low, "high": self.high}
        lists = [column.flatten().tolist() for column in columns.values()]
        letters = self.surfaces[0].letters
        return [
            {letter: point[letter] for letter in letters}
            | dict(zip(columns, numbers, strict=True))
            for point, *numbers in zip(self.surfaces[0].rows(), *lists, strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        fields = {
            "surfaces": [surface.to_dict() for surface in self.surfaces],
            "levels": self.levels,
            "median": self.median,
            "low": self.low,
            "high": self.high,
            "details": self.details,
        }
        return {name: plain(value) for name, value in fields.items()}

    def table(self) -> Table:
        """One row for each point."""
        letters = self.surfaces[0].letters
        low, high = (f"quantile {level:g}" for level in self.levels)
        cells = [[f"{value:.5g}" for value in row.values()] for row in self.rows()]
        return Table((*letters, "median", low, high), cells)


def check_levels(levels: Any) -> None:
    """Refuse anything but two levels of quantiles, the lower one first."""
    if not isinstance(levels, list | tuple) or len(levels) != 2:
        raise SettingError(
            f"levels must be two numbers such as (0.1, 0.9), got {brief(levels)}."
        )
    check_range("the lower level", levels[0], 0, 1)
    check_range("the upper level", levels[1], levels[0], 1)


def _values(surface: Surface, name: str) -> Tensor:
    if name == "loss":
        return surface.loss
    if name not in surface.quantities:
        known = ", ".join(["loss", *surface.quantities])
        raise SettingError(
            f"name must be a quantity of all surfaces, got {name!r}; one has {known}."
        )
    return surface.quantities[name].values
