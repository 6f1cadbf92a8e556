"""Cubic splines through values on a grid, along one axis after the other.

Source: de Boor, 2001, A Practical Guide to Splines, chapter IV (not-a-knot end
conditions) and chapter XVII (tensor products).

Shape letters: N nodes, T targets.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def interpolated(values: Array, nodes: Sequence[Any], targets: Sequence[Any]) -> Array:
    """The tensor-product cubic spline of values on a grid, at another grid.

    Polynomials of degree 3 or less in each coordinate are met exactly. At a node the
    spline is the value there, bit for bit. An axis of two nodes is interpolated by a
    line, one of three by a parabola, and of one by a constant.

    Args:
        values: finite, one dimension for each axis.
        nodes: coordinates along each axis, increasing or decreasing, evenly spaced or
            not; as many as the values have along it.
        targets: coordinates along each axis; beyond the nodes the last cubic goes on.

    Returns:
        Values at all combinations of targets, one dimension for each axis.
    """
    result = np.asarray(values, dtype=np.float64)
    for axis, (at, to) in enumerate(zip(nodes, targets, strict=True)):
        along = np.moveaxis(result, axis, 0)
        there = _along(along, np.asarray(at, float), np.asarray(to, float))
        result = np.moveaxis(there, 0, axis)
    return result


def _along(values: Array, nodes: Array, targets: Array) -> Array:
    """The spline along the first axis, shape (T, ...)."""
    if np.array_equal(nodes, targets):
        return values
    if len(nodes) == 1:
        return np.repeat(values, len(targets), axis=0)
    if nodes[0] > nodes[-1]:
        values, nodes = values[::-1], nodes[::-1]
    steps = np.diff(nodes).reshape(-1, *[1] * (values.ndim - 1))
    bends = _second_derivatives(values, steps)
    left = np.clip(np.searchsorted(nodes, targets, "right") - 1, 0, len(nodes) - 2)
    step = steps[left]
    # Each interval in its own coordinate, from 0 to 1.
    b = (targets - nodes[left]).reshape(step.shape) / step
    a = 1 - b
    curved = (a**3 - a) * bends[left] + (b**3 - b) * bends[left + 1]
    result: Array = a * values[left] + b * values[left + 1] + curved * step**2 / 6
    return result


def _second_derivatives(values: Array, h: Array) -> Array:
    """Second derivatives of the spline at the nodes, shape (N, ...).

    Args:
        values: shape (N, ...).
        h: steps between the nodes, N - 1 along the first axis.
    """
    slopes = np.diff(values, axis=0) / h
    if len(h) == 1:
        return np.zeros_like(values)
    right = 6 * np.diff(slopes, axis=0)
    if len(h) == 2:  # a single parabola
        return np.broadcast_to(right / (3 * (h[0] + h[1])), values.shape)
    # The third derivative is continuous at the second node and the last but one, so
    # that the outermost derivatives are no unknowns: a tridiagonal system is left.
    low, middle, high = h[:-1].copy(), 2 * (h[:-1] + h[1:]), h[1:].copy()
    middle[0] += h[0] + h[0] ** 2 / h[1]
    high[0] -= h[0] ** 2 / h[1]
    middle[-1] += h[-1] + h[-1] ** 2 / h[-2]
    low[-1] -= h[-1] ** 2 / h[-2]
    inner = _tridiagonal(low, middle, high, right)
    first = inner[0] + (inner[0] - inner[1]) * h[0] / h[1]
    last = inner[-1] + (inner[-1] - inner[-2]) * h[-1] / h[-2]
    return np.concatenate([first[None], inner, last[None]])


def _tridiagonal(low: Array, middle: Array, high: Array, right: Array) -> Array:
    """Solve a tridiagonal system whose diagonal dominates, without pivots."""
    middle, right = middle.copy(), right.copy()
    for i in range(1, len(right)):
        factor = low[i] / middle[i - 1]
        middle[i] -= factor * high[i - 1]
        right[i] -= factor * right[i - 1]
    right[-1] /= middle[-1]
    for i in range(len(right) - 2, -1, -1):
        right[i] = (right[i] - high[i] * right[i + 1]) / middle[i]
    return right
