"""Angles between vectors and subspaces, and the curvature along them.

Shape letters: D parameters in all, K and L columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.linalg.protocols import (
    LinearOperator,
    check_tensor,
    dimension,
    product,
    uncast,
)


def alignment(vector: Tensor, directions: Tensor) -> Tensor:
    """Cosines between a vector, such as a gradient, and directions.

    Where the directions are orthonormal, the squares add up to the share of the vector
    that lies in their span.

    Args:
        vector: shape (D,); 0 has the cosine 0 with everything.
        directions: shape (D, K), columns of any length but 0.

    Returns:
        Cosines from -1 to 1, shape (K,), float64. The sign of an eigenvector means
        nothing.

    Raises:
        SettingError: shapes that do not fit.

    Example:
        >>> alignment(torch.tensor([3.0, 4.0]), torch.eye(2)).tolist()
        [0.6, 0.8]
    """
    check_tensor("vector", vector)
    check_tensor("directions", directions)
    if vector.dim() != 1 or directions.dim() != 2 or len(vector) != len(directions):
        raise SettingError(
            "alignment needs a vector (D,) and directions (D, K), got "
            f"{tuple(vector.shape)} and {tuple(directions.shape)}."
        )
    vector, directions = vector.double(), directions.double()
    # A vector of zeros has the cosine 0 instead of NaN, as the docstring says.
    lengths = vector.norm() * directions.norm(dim=0)
    cosines: Tensor = (vector @ directions) / lengths.clamp(min=1e-300)
    return cosines


def overlap(first: Tensor, second: Tensor) -> float:
    """Overlap of two subspaces: mean squared cosine of their principal angles.

    It is 1 where the smaller lies in the larger and 0 where they are orthogonal; two
    random subspaces of K and L dimensions have about max(K, L) / D. Source: Gur-Ari et
    al., 2018, arXiv:1812.04754.

    Args:
        first: vectors that span it, shape (D, K), linearly independent.
        second: vectors that span it, shape (D, L), linearly independent.

    Raises:
        SettingError: shapes that do not fit, or vectors that are dependent.

    Example:
        >>> round(overlap(torch.eye(3)[:, :2], torch.eye(3)[:, 1:]), 6)
        0.5
    """
    check_tensor("first", first)
    check_tensor("second", second)
    if first.dim() != 2 or second.dim() != 2 or len(first) != len(second):
        raise SettingError(
            "overlap needs two blocks of vectors (D, K) and (D, L), got "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    bases = [_orthonormal(block) for block in (first, second)]
    squares = (bases[0].T @ bases[1]).square().sum()
    return float(squares) / min(first.shape[1], second.shape[1])


def directional(H: LinearOperator, directions: Tensor) -> Tensor:
    """Curvature along directions: v' H v over v' v.

    Args:
        H: symmetric operator of shape (D, D), or a dense tensor.
        directions: shape (D,) or (D, K), of any length but 0.

    Returns:
        Curvatures, shape () or (K,), float64, in the units of H.

    Raises:
        SettingError: a shape that does not fit, or a product that is not finite.

    Example:
        >>> directional(torch.diag(torch.tensor([4.0, 2.0])), torch.ones(2)).item()
        3.0
    """
    check_tensor("directions", directions)
    if directions.dim() not in (1, 2) or len(directions) != dimension(H):
        raise SettingError(
            f"directions must have the shape ({dimension(H)},) or "
            f"({dimension(H)}, K), got {tuple(directions.shape)}."
        )
    directions = directions.to(device=H.device, dtype=H.dtype)
    with uncast(H):
        image = product(H, directions)
    along = (directions * image).sum(0, dtype=torch.float64)
    curvatures: Tensor = along / directions.square().sum(0, dtype=torch.float64)
    return curvatures


def _orthonormal(block: Tensor) -> Tensor:
    basis: Tensor
    basis, triangle = torch.linalg.qr(block.double())
    sizes = triangle.diagonal().abs()
    if block.shape[1] > len(block) or not bool((sizes > 1e-10 * sizes.max()).all()):
        raise SettingError(
            "the vectors that span a subspace must be linearly independent; leave out "
            "those within the span of others."
        )
    return basis
