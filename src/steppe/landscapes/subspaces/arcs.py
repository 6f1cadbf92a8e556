"""Lengths of Bezier curves, from the inner products of their sides alone.

Shape letters: K sides of the polygon of control points, T points.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

NODES = 32  # of the Gauss-Legendre rule on each piece
PIECES = 2**12  # at most; a curve with a cusp needs many
ACCURACY = 1e-12  # of the length, as a share of it


def bezier_length(gram: Any) -> float:
    """Length of a Bezier curve: the integral of its speed from 0 to 1.

    The speed is K times the norm of the Bernstein mean of the sides.

    Args:
        gram: inner products of the sides, shape (K, K).
    """
    degree = len(gram) - 1
    powers = np.arange(degree + 1)
    binomials = [math.comb(degree, k) for k in powers]
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    length, pieces = math.inf, 1
    while pieces <= PIECES:
        before = length
        starts = np.arange(pieces)[:, None]
        t = ((starts + (nodes + 1) / 2) / pieces).reshape(-1, 1)
        bernstein = binomials * t**powers * (1 - t) ** (degree - powers)
        squares = np.einsum("ti,ij,tj->t", bernstein, gram, bernstein)
        speed = len(gram) * np.sqrt(np.maximum(squares, 0))
        length = float((speed.reshape(pieces, -1) @ weights).sum() / (2 * pieces))
        if abs(length - before) <= ACCURACY * length:
            break
        pieces *= 2
    return length
