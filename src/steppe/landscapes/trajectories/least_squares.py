"""The nearest point of a subspace, by least squares in all parameters.

Shape letters: P parameter tensors, K directions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from steppe.errors import SettingError, UsageError, brief
from steppe.landscapes.subspaces.abstract import Subspace

# Least eigenvalue of the matrix of cosines; below it, coordinates are rounding.
DEPENDENT = 1e-8


class LeastSquares:
    """Coordinates of displacements from a point of a subspace.

    Directions need not be orthogonal, nor of any length.

    Args:
        subspace: a line, plane or box.

    Raises:
        SettingError: a curve, or no subspace.
        UsageError: directions that are 0, or in the span of the others.
    """

    def __init__(self, subspace: Subspace) -> None:
        if not isinstance(subspace, Subspace):
            raise SettingError(
                "checkpoints are projected onto a steppe.Line, Plane or Box, got "
                f"{brief(subspace)}."
            )
        if subspace.course is not None:
            raise SettingError(
                "checkpoints are projected onto a steppe.Line, Plane or Box, got a "
                f"{type(subspace).__name__}, which is curved; take its plane."
            )
        self.subspace = subspace
        count = len(subspace.directions)
        self.gram = torch.zeros((count, count), dtype=torch.float64, device="cpu")
        for rows in self._rows():
            self.gram += rows @ rows.T
        self._sizes = self.gram.diagonal().sqrt()
        sizes = self._sizes.tolist()
        if not all(0 < size < float("inf") for size in sizes):
            raise UsageError(
                f"directions of a subspace must have lengths > 0, got {sizes}; nothing "
                "can be projected onto this one."
            )
        self._cosines = self.gram / (self._sizes[:, None] * self._sizes)
        if float(torch.linalg.eigvalsh(self._cosines)[0]) < DEPENDENT:
            raise UsageError(
                "the directions of the subspace are dependent, so that a checkpoint "
                "has no coordinates of its own there; make one of fewer axes."
            )

    def coordinates(
        self, apart: Callable[[], Iterable[Tensor]]
    ) -> tuple[Tensor, float, float]:
        """Coordinates of the nearest displacement within, and the distances.

        Args:
            apart: gives P tensors on the host in float64, in the order of the subspace;
                it is called twice, so that one of them is in memory at a time.

        Returns:
            Coordinates, shape (K,), the norm of what is left, and of all.
        """
        products = torch.zeros(len(self.gram), dtype=torch.float64, device="cpu")
        total = 0.0
        for rows, tensor in zip(self._rows(), apart(), strict=True):
            products += rows @ tensor.flatten()
            total += float(tensor.square().sum())
        scaled = torch.linalg.solve(self._cosines, products / self._sizes)
        nearest = scaled / self._sizes
        left = 0.0
        # Not by the difference of squares, which rounds a small residual away.
        for rows, tensor in zip(self._rows(), apart(), strict=True):
            left += float((tensor.flatten() - nearest @ rows).square().sum())
        return nearest, left**0.5, total**0.5

    def _rows(self) -> Iterator[Tensor]:
        """Of each parameter tensor the K directions, shape (K, entries), float64."""
        for tensors in zip(*self.subspace.directions, strict=True):
            flat = [t.detach().reshape(-1).cpu().double() for t in tensors]
            yield torch.stack(flat)
