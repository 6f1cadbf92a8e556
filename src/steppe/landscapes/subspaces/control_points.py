"""Weights of the control points of curves: Bernstein polynomials, pieces of a line.

Source: Garipov et al., 2018, arXiv:1802.10026, Equations 1 and 4; the published code
for chains of several bends. Difference: a chain goes on beyond its ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from steppe.landscapes.subspaces.abstract import Point

CurveKind = Literal["bezier", "polychain"]


@dataclass(frozen=True)
class ControlPoints:
    """Weights of control points along a curve.

    Args:
        kind: "bezier" for Bernstein polynomials, "polychain" for pieces of a line.
        last: number of the last point, from 0.
    """

    kind: CurveKind
    last: int

    def __call__(self, point: Point) -> tuple[float, ...]:
        """Coefficients of the directions from the first control point to the others."""
        return tuple(self.weights(point[0])[1:])

    def weights(self, t: float) -> list[float]:
        """Weights of all control points at a coordinate; their sum is 1."""
        last = self.last
        if self.kind == "bezier":
            return [
                math.comb(last, k) * t**k * (1 - t) ** (last - k)
                for k in range(last + 1)
            ]
        piece = min(max(math.floor(t * last), 0), last - 1)
        share = t * last - piece
        weights = [0.0] * (last + 1)
        weights[piece], weights[piece + 1] = 1 - share, share
        return weights
