"""The smallest balance of two matrices under scales of rows and columns.

The sum over i, j of a_ij s_i t_j + b_ij / (s_i t_j) is convex in the logarithms of the
scales s and t.

Source: Tsuzuku, Sato and Sugiyama, 2020, arXiv:1901.04653, for the problem; Newton's
method with backtracking: Boyd and Vandenberghe, 2004, Convex Optimization, section 9.5.

Shape letters: R rows, C columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SLOPE = 1e-10  # of the sum, as a share of it, at which no step is left to take
MOST = 200  # steps
SWEEPS = 10  # over rows and columns in turn, before the first step of Newton's method


@dataclass(frozen=True)
class Balance:
    """The least sum, and logarithms of the scales there."""

    value: float
    rows: Tensor  # (R,); of a row that counts nothing 0
    columns: Tensor  # (C,)
    converged: bool


def least_sum(a: Tensor, b: Tensor) -> Balance:
    """Minimize the sum of a_ij s_i t_j + b_ij / (s_i t_j) over positive scales.

    Rows and columns of which one matrix has zeros alone count nothing, since scales
    that grow or shrink without end take away what the other one has there.

    Args:
        a: entries >= 0, shape (R, C), float64.
        b: of the same kind.

    Example:
        >>> one = torch.ones(1, 1, dtype=torch.float64)
        >>> round(least_sum(8 * one, 2 * one).value, 12)  # 2 sqrt(8 * 2)
        8.0
    """
    rows, columns = _counted(a, b)
    u, v = (torch.zeros(n, dtype=a.dtype, device=a.device) for n in a.shape)
    a, b = a[rows][:, columns], b[rows][:, columns]
    if not a.numel():
        return Balance(0.0, u, v, True)
    x, y = a.new_zeros(len(a)), a.new_zeros(a.shape[1])
    for _ in range(SWEEPS):
        x, y = _swept(a, b, x, y)
    converged = False
    for _ in range(MOST):
        if converged := _slope(a, b, x, y) <= SLOPE:
            break
        x, y = _better(a, b, x, y)
    u[rows], v[columns] = x, y
    return Balance(_total(a, b, x, y), u, v, converged)


def _counted(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of rows and columns of which both matrices have something."""
    rows, columns = (torch.arange(n, device=a.device) for n in a.shape)
    while True:
        here = a[rows][:, columns], b[rows][:, columns]
        keep = [torch.stack([m.sum(1) for m in here]).gt(0).all(0)]
        keep.append(torch.stack([m.sum(0) for m in here]).gt(0).all(0))
        if bool(keep[0].all()) and bool(keep[1].all()):
            return rows, columns
        rows, columns = rows[keep[0]], columns[keep[1]]


def _parts(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    scales = (x.unsqueeze(1) + y).exp()
    return a * scales, b / scales


def _swept(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Give all rows their best scales, and then all columns."""
    for dim in (1, 0):
        up, down = (part.sum(dim).log() for part in _parts(a, b, x, y))
        x, y = (x + (down - up) / 2, y) if dim == 1 else (x, y + (down - up) / 2)
    return x, y


def _slope(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> float:
    """Length of the derivative of the logarithm of the sum."""
    up, down = _parts(a, b, x, y)
    apart = up - down
    length = torch.cat([apart.sum(1), apart.sum(0)]).norm()
    return float(length / (up.sum() + down.sum()))


def _better(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """One step of Newton's method, or a sweep where that gains more."""
    up, down = _parts(a, b, x, y)
    both, apart = up + down, up - down
    if len(a) < a.shape[1]:  # the smaller side is solved for, the other follows
        dy, dx = _step(both.T, apart.sum(0), apart.sum(1))
    else:
        dx, dy = _step(both, apart.sum(1), apart.sum(0))
    best = _swept(a, b, x, y)
    least = _total(a, b, *best)
    for halving in range(10):
        there = x + dx / 2**halving, y + dy / 2**halving
        if _total(a, b, *there) < least:
            return there
    # Sums that no longer differ may still have slopes that do.
    there = x + dx, y + dy
    return min(best, there, key=lambda scales: _slope(a, b, *scales))


def _step(both: Tensor, by_rows: Tensor, by_columns: Tensor) -> tuple[Tensor, Tensor]:
    """Solve [[diag r, M], [M', diag c]] (dx, dy) = -(slopes), M with fewer columns."""
    r, c = both.sum(1), both.sum(0)
    schur = torch.diag(c) - both.T @ (both / r.unsqueeze(1))
    # What rows gain columns may lose: along that the matrix is singular, and the slope
    # has no part there.
    schur += torch.diag(1e-13 * c)
    right = -by_columns + both.T @ (by_rows / r)
    dy: Tensor = torch.linalg.solve(schur, right)
    return (-by_rows - both @ dy) / r, dy


def _total(a: Tensor, b: Tensor, x: Tensor, y: Tensor) -> float:
    up, down = _parts(a, b, x, y)
    return float(up.sum() + down.sum())
