"""Coordinates of checkpoints as the code of Li et al. writes them by default.

There, "cos" gives the length of the projection onto each direction alone, <d, x> / |x|,
which is a coordinate only where the directions are orthogonal unit vectors. Files of
that code are read and written through these two functions; steppe itself has the
coordinates of the nearest point.

Source: Li et al., 2018, arXiv:1712.09913, and the published code.

Shape letters: T checkpoints, K directions.
"""

from __future__ import annotations

import torch
from torch import Tensor


def lengths_along(coordinates: Tensor, gram: Tensor) -> Tensor:
    """Lengths along each direction, of coordinates by least squares.

    Args:
        coordinates: shape (T, K).
        gram: inner products of the directions, shape (K, K).

    Example:
        >>> gram = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
        >>> lengths_along(torch.tensor([[0.5, 0.25]]), gram).tolist()
        [[1.125, 0.75]]
    """
    return coordinates @ gram / gram.diagonal().sqrt()


def coordinates_from(lengths: Tensor, gram: Tensor) -> Tensor:
    """The inverse of `lengths_along`.

    Args:
        lengths: shape (T, K).
        gram: inner products of the directions, shape (K, K), not singular.

    Example:
        >>> gram = torch.tensor([[4.0, 1.0], [1.0, 1.0]])
        >>> coordinates_from(torch.tensor([[1.125, 0.75]]), gram).tolist()
        [[0.5, 0.25]]
    """
    products = lengths * gram.diagonal().sqrt()
    solved: Tensor = torch.linalg.solve(gram, products.T).T
    return solved
