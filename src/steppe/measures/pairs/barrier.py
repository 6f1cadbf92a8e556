"""Barrier of the loss on the straight line between two networks.

Source: Frankle et al., 2020, arXiv:1912.05671, section 2 (instability along the line,
relative to the mean of the ends); Entezari et al., 2022, arXiv:2110.06296
(relative to the chord between the ends, as here). Statistics of batch norm are
re-estimated at every point, the ends as well, as in Jordan et al., 2023,
arXiv:2211.08403, so that the barrier between two equal networks is 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steppe.batches import error_of_mean
from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.points.paths import BatchNorm, LossesOnPath, PathLosses
from steppe.objective import Objective
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "barrier",
    source="Entezari et al., 2022, arXiv:2110.06296; arXiv:1912.05671",
    units="loss",
    needs=("losses on a path", "other network"),
    cost=Cost(forwards=25),
    cost_note="points, and as many again where batch norm is re-estimated; matched "
    "adds three passes over the first batch",
)
@dataclass(frozen=True, kw_only=True)
class Barrier(AbstractMeasure):
    """Height of the loss between two networks: its largest rise above the chord.

    With A the measured network and B the one given as `other=`, it is the maximum over
    t of L((1-t)A + tB) - [(1-t) L(A) + t L(B)], which is 0 where the loss lies nowhere
    above the chord. The standard error is over the samples, paired along the line, of
    the height at the highest point; it leaves out that the place was chosen. The
    details hold that place `at`, and the `losses` at all `coordinates`.

    Args:
        points: coordinates from 0 to 1, both ends included; 11 to 25 are usual.
        batch_norm: running statistics at a point. "reestimate" takes those of the data
            there, at the ends, too; "interpolate" goes from those of A to those of B;
            "freeze" keeps those of A all along, also at B.
        matched: the hidden units of B take the order of those of A first, by weight
            matching (Ainsworth et al., 2023, arXiv:2209.04836).
    """

    bounds: ClassVar[Ranges] = {"points": at_least(3)}

    points: int = 25
    batch_norm: BatchNorm = "reestimate"
    matched: bool = False

    def needs(self) -> Sequence[Need[Any]]:
        """The losses at all points."""
        return self._path()

    def estimate(self, measurement: Measurement) -> Estimate:
        """Evaluate all points; nothing is drawn."""
        path = self._path()
        points = measurement.of_all(path)
        return height([p.coordinate for p in path], points, measurement.objective)

    def _path(self) -> list[LossesOnPath]:
        last = self.points - 1
        return [
            LossesOnPath(i / last, self.batch_norm, self.matched)
            for i in range(self.points)
        ]


def height(
    path: Sequence[float], points: Sequence[PathLosses], objective: Objective
) -> Estimate:
    """The largest rise of the loss on a path above the chord between its ends.

    Args:
        path: coordinates from 0 to 1, both included.
        points: the losses there.
        objective: that they are of.
    """
    coordinates = torch.tensor(path, dtype=torch.float64, device="cpu")
    losses = torch.tensor(
        [each.mean for each in points], dtype=torch.float64, device="cpu"
    )
    # In this form equal losses give 0 without rounding.
    rises = losses - losses[0] - coordinates * (losses[-1] - losses[0])
    top = int(rises.argmax())
    at = path[top]
    ends = zip(points[top].batches, points[0].batches, points[-1].batches, strict=True)
    apart = [here - a - at * (b - a) for here, a, b in ends]
    return Estimate(
        value=float(rises[top]),
        stderr=error_of_mean(apart, dependent=objective.mode == "train"),
        samples=objective.count(),
        converged=bool(losses.isfinite().all()),
        details={
            "at": at,
            "coordinates": coordinates.tolist(),
            "losses": losses.tolist(),
        },
    )
