"""The numbers of a grid: a column for each quantity and its errors.

Arrays have the first axis first; tensors of a surface have it last.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from steppe.landscapes.evaluation.evaluator import PointValues
from steppe.landscapes.evaluation.grid import Grid, Place
from steppe.landscapes.evaluation.points import Points
from steppe.surfaces.interpolation import Array

Column = tuple[str, str]  # a quantity, and its mean or an error
MEAN, STDERR = "mean", "stderr"
RISE_STDERR, SUBSET_STDERR = "rise_stderr", "subset_stderr"
LOSS: Column = ("loss", MEAN)


class GridValues:
    """Values at the places of a grid; NaN where nothing was evaluated.

    Args:
        grid: of the places.
        points: which evaluates them.
    """

    def __init__(self, grid: Grid, points: Points) -> None:
        self.grid = grid
        self.columns: dict[Column, Array] = {}
        self.known = np.zeros(grid.counts, dtype=bool)
        self._points = points

    def evaluate(self, places: Sequence[Place]) -> None:
        """Evaluate places, but for those that are known, from the base point out."""
        points = {self.grid.point(place): place for place in places}
        self._points.evaluate(self.grid.outward(points))
        for place in places:
            self._put(place, self._points.values[self.grid.point(place)])

    def plan(self, places: Sequence[Place]) -> None:
        """Say which places there will be, beside those that are known."""
        self._points.plan(map(self.grid.point, places))

    def fill(self, column: Column, values: Array) -> None:
        """Set a column where nothing was evaluated."""
        self.columns[column][~self.known] = values[~self.known]

    def tensor(self, column: Column) -> Tensor:
        """A column as surfaces have it, the first axis last."""
        return torch.from_numpy(self.columns[column].T.copy())

    @property
    def evaluated(self) -> Tensor:
        """Where values were evaluated, the first axis last."""
        return torch.from_numpy(self.known.T.copy())

    def _put(self, place: Place, values: PointValues) -> None:
        self.known[place] = True
        for column, number in self._numbers(values).items():
            if column not in self.columns:
                self.columns[column] = np.full(self.grid.counts, np.nan)
            self.columns[column][place] = number

    def _numbers(self, values: PointValues) -> dict[Column, float]:
        numbers = {
            LOSS: values.loss,
            ("loss", STDERR): values.stderr,
            ("loss", RISE_STDERR): values.rise_stderr,
            ("loss", SUBSET_STDERR): values.subset_stderr,
        }
        if self._points.evaluator.objective.penalty is not None:
            numbers["penalty", MEAN] = values.penalty
        for name, (mean, error) in values.quantities.items():
            numbers[name, MEAN], numbers[name, STDERR] = mean, error
        return numbers
