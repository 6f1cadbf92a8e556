"""Principal components of checkpoints, by their Gram matrix.

The T checkpoints of P parameters have at most T - 1 components, which are combinations
of the checkpoints: the eigenvectors of the T x T matrix of their inner products say
which. It takes O(T^2 P) additions, and as many checkpoints in memory as fit.

Source: Li et al., 2018, arXiv:1712.09913, section 7, whose code fits scikit-learn's
PCA, of the variance about the mean, and draws the plane through the last checkpoint.
The share of the squared distances from there stands beside it here.

Shape letters: T checkpoints, K components, D parameters in all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from steppe.errors import UsageError

Center = Literal["final", "mean", "first"]
Read = Callable[[int], Sequence[Tensor]]  # tensors of a checkpoint, always the same

CHUNK = 2**22  # numbers in float64 at once, of all checkpoints of a group
# Singular values below this share of the largest are rounding: the Gram matrix has
# their squares.
FLAT = 1e-5


@dataclass(frozen=True, kw_only=True)
class Components:
    """Principal components, and how much of the checkpoints they hold."""

    directions: list[list[Tensor]]  # K times the tensors of a checkpoint, float64
    coordinates: Tensor  # (T, K) of the checkpoints, from the base
    singular_values: Tensor  # (K,) of the checkpoints about their mean
    variance_ratio: Tensor  # (K,) share of the variance about the mean
    # (K,) share of the squared distances from the base, through which the plane goes.
    from_base: Tensor

    @property
    def details(self) -> dict[str, Any]:
        """The numbers, under the names of scikit-learn."""
        count = len(self.coordinates)
        return {
            "checkpoints": count,
            "explained_variance_ratio": self.variance_ratio.tolist(),
            "explained_variance": (
                self.singular_values.square() / (count - 1)
            ).tolist(),
            "singular_values": self.singular_values.tolist(),
            "explained_from_base": self.from_base.tolist(),
        }


def principal_components(
    read: Read, count: int, components: int, center: Center, budget: int
) -> Components:
    """Principal components of checkpoints about their mean.

    Args:
        read: gives the tensors of a checkpoint by its position.
        count: T, of the checkpoints.
        components: K.
        center: the base point that coordinates are from: the last checkpoint, the first
            or the mean.
        budget: bytes for checkpoints in memory at once; at least two are.

    Raises:
        UsageError: checkpoints that span fewer dimensions.
    """
    # Inner products of the differences from one of them: those of the checkpoints
    # themselves would be many times as large, and their rounding too.
    origin = [t.double().cpu() for t in read(0 if center == "first" else count - 1)]
    gram = gram_matrix(read, count, origin, budget)
    ones = torch.ones(count, dtype=torch.float64, device="cpu")
    at_mean = (
        torch.eye(count, dtype=torch.float64, device="cpu")
        - ones[:, None] * ones / count
    )
    at_base = (
        at_mean
        if center == "mean"
        else torch.eye(count, dtype=torch.float64, device="cpu")
    )
    values, vectors = torch.linalg.eigh(at_mean @ gram @ at_mean)
    values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
    sizes = values.sqrt()
    if components >= count or float(sizes[components - 1]) <= FLAT * float(sizes[0]):
        spanned = int((sizes > FLAT * sizes[0]).sum()) if float(sizes[0]) else 0
        raise UsageError(
            f"{components} components need checkpoints that span as many dimensions, "
            f"but the {count} checkpoints span {spanned}; give others, or take a Line."
        )
    sizes = sizes[:components]
    weights = (at_mean @ vectors[:, :components]) / sizes
    directions = _combined(read, origin, weights)
    signs = _orthonormalise(directions)
    coordinates = at_base @ gram @ weights * signs
    total = (at_base @ gram @ at_base).diagonal().sum()
    return Components(
        directions=directions,
        coordinates=coordinates,
        singular_values=sizes,
        variance_ratio=values[:components] / values.sum(),
        from_base=coordinates.square().sum(0) / total,
    )


def gram_matrix(
    read: Read, count: int, origin: Sequence[Tensor], budget: int
) -> Tensor:
    """Inner products of checkpoints minus an origin, shape (T, T), float64.

    Args:
        read: gives the tensors of a checkpoint by its position.
        count: T, of the checkpoints.
        origin: tensors on the host.
        budget: bytes for checkpoints in memory at once; at least two are.
    """
    size = sum(t.numel() * t.element_size() for t in read(count - 1))
    held = max(2, budget // max(size, 1))
    # All at once, or two groups of which each meets each other one.
    step = count if held >= count else held // 2
    groups = [range(i, min(i + step, count)) for i in range(0, count, step)]
    gram = torch.zeros((count, count), dtype=torch.float64, device="cpu")
    for number, left in enumerate(groups):
        rows = [read(i) for i in left]
        _add_products(gram, left, rows, left, rows, origin)
        for right in groups[number + 1 :]:
            _add_products(gram, left, rows, right, [read(i) for i in right], origin)
    return torch.triu(gram) + torch.triu(gram, 1).T


def _add_products(
    gram: Tensor,
    left: range,
    rows: Sequence[Sequence[Tensor]],
    right: range,
    columns: Sequence[Sequence[Tensor]],
    origin: Sequence[Tensor],
) -> None:
    """Add the inner products of two groups to the Gram matrix, in float64."""
    width = max(1, CHUNK // (len(left) + len(right)))
    block = gram[left.start : left.stop, right.start : right.stop]
    for position, start in enumerate(origin):
        flat = start.flatten()
        for i in range(0, flat.numel(), width):
            part = slice(i, i + width)
            a = _stacked(rows, position, part) - flat[part]
            same = columns is rows
            b = a if same else _stacked(columns, position, part) - flat[part]
            block += a @ b.T


def _stacked(rows: Sequence[Sequence[Tensor]], position: int, part: slice) -> Tensor:
    return torch.stack(
        [row[position].detach().reshape(-1)[part].cpu().double() for row in rows]
    )


def _combined(
    read: Read, origin: Sequence[Tensor], weights: Tensor
) -> list[list[Tensor]]:
    """Weighted sums of the checkpoints minus the origin, K times."""
    sums = [[torch.zeros_like(t) for t in origin] for _ in range(weights.shape[1])]
    for number, row in enumerate(weights.tolist()):
        for position, tensor in enumerate(read(number)):
            apart = tensor.detach().cpu().double() - origin[position]
            for weight, total in zip(row, sums, strict=True):
                total[position].add_(apart, alpha=weight)
    return sums


def _orthonormalise(directions: list[list[Tensor]]) -> Tensor:
    """Gram-Schmidt in place, and signs that make the largest entries positive.

    Rounding leaves the directions orthonormal to about 1e-6 at worst.

    Returns:
        The signs that the directions were multiplied by, shape (K,).
    """
    signs = []
    for k, direction in enumerate(directions):
        for other in directions[:k]:
            along = sum(float((a * b).sum()) for a, b in zip(direction, other))
            for a, b in zip(direction, other, strict=True):
                a.sub_(b, alpha=along)
        length = sum(float(t.square().sum()) for t in direction) ** 0.5
        ends = [t.flatten()[t.abs().argmax()] for t in direction if t.numel()]
        sign = 1.0 if float(max(ends, key=abs)) > 0 else -1.0
        for t in direction:
            t.mul_(sign / length)
        signs.append(sign)
    return torch.tensor(signs, dtype=torch.float64, device="cpu")
