"""The Krylov space of a symmetric operator, one product at a time.

Source: Lanczos, 1950, doi:10.6028/jres.045.026. Every new vector is made orthogonal to
all earlier ones by a block pass, repeated where it took out much (Daniel et al., 1976,
doi:10.1090/S0025-5718-1976-0431641-8): without it, converged eigenvalues return as
ghosts.

Shape letters: D parameters in all, L locked vectors, m steps so far.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steppe.linalg.operator import LinearOperator, dimension, gaussian, product

CAPACITY = 32  # vectors the basis has room for at first; it doubles when full


class Krylov:
    """An orthonormal basis in which the operator is tridiagonal.

    Where the space is exhausted it goes on with a random vector, so that multiple
    eigenvalues and very small D are found too.

    Args:
        H: symmetric operator of shape (D, D).
        start: first vector, shape (D,); anything but a combination of `locked`.
        generator: of the vectors that continue an exhausted space.
        locked: orthonormal vectors to stay orthogonal to, shape (D, L).
    """

    def __init__(
        self,
        H: LinearOperator,
        start: Tensor,
        generator: torch.Generator,
        locked: Tensor | None = None,
    ) -> None:
        self._H = H
        self._generator = generator
        self.size = dimension(H)
        self.locked = 0 if locked is None else locked.shape[1]
        # Half precision is too coarse to hold an orthogonal basis.
        wide = torch.float64 if H.dtype == torch.float64 else torch.float32
        room = min(self.size, self.locked + CAPACITY)
        self._rows = torch.empty((room, self.size), dtype=wide, device=H.device)
        if locked is not None:
            self._rows[: self.locked] = locked.T
        self._filled = self.locked
        self._alphas: list[float] = []
        self._betas: list[float] = []
        self._couplings: list[Tensor] = []
        self._append(self._against_all(start.to(self._rows.dtype))[0])

    @property
    def steps(self) -> int:
        """Products made, which is the size of the tridiagonal matrix."""
        return len(self._alphas)

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space."""
        return self.locked + self.steps >= self.size

    @property
    def epsilon(self) -> float:
        """Rounding error of the basis: its precision times the size of H."""
        precision: float = torch.finfo(self._rows.dtype).eps
        return precision * self._scale()

    @property
    def rounding(self) -> float:
        """Rounding error of a product: the operator's precision times its size."""
        precision: float = torch.finfo(self._H.dtype).eps
        return precision * self._scale()

    def step(self) -> None:
        """Make one product and add the next basis vector."""
        current = self._rows[self._filled - 1]
        image = product(self._H, current.to(self._H.dtype)).to(current.dtype)
        rest, along, beta = self._against_all(self._against_two(image))
        alpha = float(current @ image)
        self._couplings.append(along[: self.locked])
        self._alphas.append(alpha)
        self._betas.append(beta)
        if self.exhausted:
            self._betas[-1] = 0.0
        elif beta <= 10 * self.epsilon:
            self._betas[-1] = 0.0
            fresh = gaussian(self._H, self._generator).to(current.dtype)
            self._append(self._against_all(fresh)[0])
        else:
            self._append(rest)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values (m,) ascending, coefficients (m, m), residuals (m,), float64.

        The residuals include the rounding error of the products.
        """
        off = torch.tensor(self._betas[:-1], dtype=torch.float64)
        tridiagonal = torch.diag(torch.tensor(self._alphas, dtype=torch.float64))
        tridiagonal += torch.diag(off, 1) + torch.diag(off, -1)
        values, coefficients = torch.linalg.eigh(tridiagonal)
        residuals = self._betas[-1] * coefficients[-1].abs()
        return values, coefficients, residuals + self.rounding

    def vectors(self, coefficients: Tensor) -> Tensor:
        """Combinations of the basis, coefficients (m, K) to vectors (D, K)."""
        basis = self._rows[self.locked : self.locked + self.steps]
        wanted = coefficients.to(device=basis.device, dtype=basis.dtype)
        return torch.matmul(basis.mT, wanted)

    def couplings(self, coefficients: Tensor) -> Tensor:
        """Norms of the part of H y among the locked vectors, shape (K,), float64."""
        parts = torch.stack(self._couplings, dim=1).double().cpu()  # (L, m)
        norms: Tensor = torch.linalg.vector_norm(parts @ coefficients, dim=0)
        return norms

    def _append(self, vector: Tensor) -> None:
        if self._filled == len(self._rows):
            room = min(self.size, 2 * len(self._rows))
            wider = self._rows.new_empty((room, self.size))
            wider[: self._filled] = self._rows
            self._rows = wider
        self._rows[self._filled] = vector / vector.norm()
        self._filled += 1

    def _against_two(self, image: Tensor) -> Tensor:
        """Take out the two last vectors: in exact arithmetic there are no others."""
        last = self._rows[self._filled - 1]
        rest = image - (last @ image) * last
        if self._betas and self._betas[-1]:
            rest -= self._betas[-1] * self._rows[self._filled - 2]
        return rest

    def _against_all(self, vector: Tensor) -> tuple[Tensor, Tensor, float]:
        """What is orthogonal to the basis, the components along it, and its norm.

        A pass that takes out much leaves rounding errors of that size behind, and is
        repeated; one that finds little has done its work.
        """
        basis = self._rows[: self._filled]
        along = basis @ vector
        rest = vector - along @ basis
        before, after = torch.stack([vector.norm(), rest.norm()]).double().tolist()
        if after < 0.7 * before:
            rest -= (basis @ rest) @ basis
            after = float(rest.norm())
        return rest, along, after

    def _scale(self) -> float:
        sizes = [abs(a) + b for a, b in zip(self._alphas, self._betas, strict=True)]
        return max(sizes, default=0.0)
