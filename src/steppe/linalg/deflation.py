"""Random draws of a symmetric operator, with a Krylov space taken out.

The part of the operator on the space is known exactly from the products that made it;
only the rest is drawn, with less variance: Meyer et al., 2021, arXiv:2010.09649, with
the space of Hallman, 2025, arXiv:2512.02316, that needs no products of its own.

Shape letters: D parameters in all, m Krylov steps, K columns, L parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from steppe.linalg.krylov import Krylov
from steppe.linalg.probes import gaussian, rademacher
from steppe.linalg.protocols import (
    LinearOperator,
    agreed,
    dimension,
    lengths,
    product,
    uncast,
)
from steppe.linalg.symmetry import check_drawn

STEPS = 30  # of the Krylov space that is taken out
COLUMNS = 10  # draws per product with the operator
ENTRIES = 2**26  # entries of such a block at most


class Draws:
    """Draws z' H z and |H z|^2, as sums over parts of the vector.

    Args:
        H: symmetric operator of shape (D, D).
        generator: of the random signs.
        parts: where each of the L parts lies in a vector; together they are all of it.
        krylov: space to take out; None for none.
    """

    def __init__(
        self,
        H: LinearOperator,
        generator: torch.Generator,
        parts: Sequence[slice],
        krylov: Krylov | None = None,
    ) -> None:
        self._H = H
        self._generator = generator
        self._parts = parts
        self._krylov = krylov
        self.products = 0 if krylov is None else krylov.products
        self._block = max(1, min(COLUMNS, ENTRIES // dimension(H)))
        self.deflated = krylov is not None
        self.inside = torch.zeros(len(parts), dtype=torch.float64)
        self.inside_square = 0.0
        if krylov is not None:
            with uncast(H):
                self.inside = _inside(krylov, parts)
            self.inside_square = krylov.square()

    def more(self, count: int) -> tuple[Tensor, Tensor]:
        """Draw on the deflated operator, in blocks.

        Args:
            count: number K of draws.

        Returns:
            The parts of z' H z, shape (L, K), and |H z|^2, shape (K,), both float64.
        """
        starts = range(0, count, self._block)
        blocks = [self._draw(min(self._block, count - start)) for start in starts]
        parts, squares = zip(*blocks, strict=True)
        return torch.cat(parts, dim=1), torch.cat(squares)

    def _draw(self, columns: int) -> tuple[Tensor, Tensor]:
        signs = rademacher(self._H, columns, self._generator)
        with uncast(self._H):
            # With P the projection on the space and z = (1 - P) s, z' H z is a draw of
            # (1 - P) H (1 - P): one product of H, as without deflation.
            if self._krylov is not None:
                basis = self._krylov.basis()
                wide = signs.to(basis.dtype)
                signs = (wide - basis.mT @ (basis @ wide)).to(signs.dtype)
            image = product(self._H, signs)
        # A Krylov space checks symmetry on its own, at every step.
        if self._krylov is None and not self.products:
            self._check(signs, image)
        self.products += columns
        # Without a space, signs change no digit: all rounding is that of the product.
        both = signs * image
        sums = [both[part].sum(0, dtype=torch.float64) for part in self._parts]
        squares = lengths(image).square()
        rows = torch.cat([torch.stack(sums), squares[None]])
        rows = agreed(self._H, rows).cpu()
        return rows[:-1], rows[-1]

    def _check(self, signs: Tensor, image: Tensor) -> None:
        """Compare z' H y with y' H z for draws next to each other, if any are."""
        check_drawn(self._H, signs[:, :-1], image[:, :-1], signs[:, 1:], image[:, 1:])


def named_parts(H: LinearOperator) -> Mapping[str, slice]:
    """Places of the tensors of H's parameters in its vectors; {} without names."""
    slices: Mapping[str, slice] = getattr(H, "slices", {})
    return slices


def space(H: LinearOperator, generator: torch.Generator) -> Krylov:
    """The Krylov space to take out, which may be all there is."""
    with uncast(H):
        krylov = Krylov(H, gaussian(H, generator), generator)
        for _ in range(min(STEPS, dimension(H))):
            krylov.step()
    return krylov


def _inside(krylov: Krylov, parts: Sequence[slice]) -> Tensor:
    """Sums over parts of the diagonal of H - (1 - P) H (1 - P), shape (L,).

    P projects on the space; the part E of the diagonal is 2 tr(E H P) - tr(E P H P).
    """
    basis, images = krylov.basis(), krylov.images()
    inner = krylov.projected.to(basis.device, basis.dtype)
    sums = []
    for part in parts:
        rows = basis[:, part]
        both = (rows * images[:, part]).sum(dtype=torch.float64)
        doubly = ((rows @ rows.T) * inner).sum(dtype=torch.float64)
        sums.append(2 * both - doubly)
    return torch.stack(sums).cpu()
