"""The Krylov space of a symmetric operator, one product at a time.

It holds an orthonormal basis V of m vectors that were multiplied and P of p vectors
that were not yet, with H V = V T + P R exactly: T is the projection of H and the
columns of R y are the residuals of its Ritz pairs, so nothing but the basis is stored.
One vector that waits at a time gives Lanczos (1950, doi:10.6028/jres.045.026), several
give band Lanczos (Ruhe, 1979, doi:10.1090/S0025-5718-1979-0521282-9), a choice of the
next one within P Davidson's method without preconditioner, and a change of basis within
V thick restarts (Wu and Simon, 2000, doi:10.1137/S0895479898334605).

Every new vector is made orthogonal to all earlier ones by a block pass, repeated where
it took out much (Daniel et al., 1976, doi:10.1090/S0025-5718-1976-0431641-8): without
it, converged eigenvalues return as ghosts.

Shape letters: D parameters in all, m steps so far, p pending vectors, K columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from steppe.linalg.probes import gaussian
from steppe.linalg.protocols import LinearOperator, agreed, dimension, lengths, product
from steppe.linalg.symmetry import check_symmetry

CAPACITY = 32  # vectors the basis has room for at first; it doubles when full
CHUNK = 2**20  # entries of the basis vectors that a change of basis takes at a time


class Krylov:
    """An orthonormal basis and the projection of the operator onto it.

    Where the space is exhausted it goes on with a random vector, so that multiple
    eigenvalues and very small D are covered too.

    Args:
        H: symmetric operator of shape (D, D).
        start: first vector, shape (D,), not zero; more can be let to wait by `extend`.
        generator: of the vectors that continue an exhausted space.
        most: vectors of the basis for which there is to be memory; None for D.
    """

    def __init__(
        self,
        H: LinearOperator,
        start: Tensor,
        generator: torch.Generator,
        most: int | None = None,
    ) -> None:
        self._H = H
        self._generator = generator
        self.size = dimension(H)
        # Half precision is too coarse to hold an orthogonal basis.
        wide = torch.float64 if H.dtype == torch.float64 else torch.float32
        self._most = self.size if most is None else min(self.size, most)
        room = min(self._most, CAPACITY)
        self._rows = torch.empty((room, self.size), dtype=wide, device=H.device)
        self._filled = 0  # rows in use: first V, then P
        self.products = 0
        self._reach = 0.0  # largest length of a product so far: the scale of H
        self._projected = torch.zeros((0, 0), dtype=torch.float64)  # T
        self._pending = torch.zeros((0, 0), dtype=torch.float64)  # R
        self.extend(start)
        self._refill()

    @property
    def steps(self) -> int:
        """Number m of vectors that were multiplied: the size of the projection."""
        return len(self._projected)

    @property
    def waiting(self) -> int:
        """Number p of vectors of the basis that were not multiplied yet."""
        return len(self._pending)

    @property
    def exhausted(self) -> bool:
        """Whether the basis spans the whole space."""
        return self.steps >= self.size

    @property
    def epsilon(self) -> float:
        """Rounding error of the basis: its precision times the size of H."""
        precision: float = torch.finfo(self._rows.dtype).eps
        return precision * self._reach

    @property
    def rounding(self) -> float:
        """Rounding error of a product: the operator's precision times its size."""
        precision: float = torch.finfo(self._H.dtype).eps
        return precision * self._reach

    def random(self) -> Tensor:
        """A vector drawn at random, shape (D,)."""
        return gaussian(self._H, self._generator)

    def extend(self, vector: Tensor) -> bool:
        """Let a vector wait too; False, and nothing is done, if it brings nothing new.

        Args:
            vector: shape (D,), of any length but 0.
        """
        if self._filled >= self.size:
            return False
        vector = vector.to(self._rows.dtype)
        rest, after, _ = self._against_all(vector)
        if not after > 1e-5 * float(lengths(vector)):
            return False
        self._append(rest, after)
        row = torch.zeros((1, self.steps), dtype=torch.float64)
        self._pending = torch.cat([self._pending, row])
        return True

    def step(self, toward: Tensor | None = None) -> None:
        """Expand the space by one product; a new direction joins the waiting vectors.

        Args:
            toward: combination of the waiting vectors to multiply, shape (p,); None
                for the one that has waited longest.
        """
        if toward is not None and self.waiting > 1:
            self._turn(toward)
        m, p = self.steps, self.waiting
        current = self._rows[m]
        image = product(self._H, current.to(self._H.dtype)).to(current.dtype)
        self.products += 1
        # H is symmetric: the coefficients of the image along V are those that earlier
        # images had along this vector, and only those along P have to be computed.
        known = self._pending[0]
        along = agreed(self._H, self._rows[m : m + p] @ image).double().cpu()
        rest = image - self._combined(torch.cat([known, along]))
        # The rest is orthogonal to the basis in exact arithmetic, if the operator is
        # symmetric: a component that is left along the basis shows that it is not.
        rest, beta, left = self._against_all(rest)
        self._reach = max(self._reach, float(known.norm() + along.norm()) + beta)
        check_symmetry(self._H, left, self._reach)
        self._project(known, along)
        # A shorter rest is rounding: the space is invariant, and a vector made from it
        # would be noise that passes for a direction of H.
        if beta > 10 * self.epsilon and self._filled < self.size:
            self._append(rest, beta)
            row = torch.zeros((1, m + 1), dtype=torch.float64)
            row[0, m] = beta
            self._pending = torch.cat([self._pending, row])
        self._refill()

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values (m,) ascending, coefficients (m, m), residuals (m,), float64.

        The residuals include the rounding error of the products.
        """
        values, coefficients = torch.linalg.eigh(self._projected)
        residuals = torch.linalg.vector_norm(self._pending @ coefficients, dim=0)
        return values, coefficients, residuals + self.rounding

    def residual(self, coefficients: Tensor) -> Tensor:
        """Residual H y - y T y of a combination y, among the waiting vectors: (p,)."""
        return self._pending @ coefficients

    def vectors(self, coefficients: Tensor) -> Tensor:
        """Combinations of the basis, coefficients (m, K) to vectors (D, K)."""
        basis = self.basis()
        wanted = coefficients.to(device=basis.device, dtype=basis.dtype)
        return torch.matmul(basis.mT, wanted)

    def basis(self) -> Tensor:
        """The vectors that were multiplied, shape (m, D): a view."""
        return self._rows[: self.steps]

    def images(self) -> Tensor:
        """Products of H with the basis, shape (m, D): a combination of its vectors."""
        mixed = torch.cat([self._projected, self._pending])  # (m + p, m)
        rows = self._rows[: self._filled]
        products: Tensor = mixed.T.to(rows.device, rows.dtype) @ rows
        return products

    @property
    def projected(self) -> Tensor:
        """T, shape (m, m), float64, on the host."""
        return self._projected

    def square(self) -> float:
        """Sum of the squares of the products of H with the basis."""
        return float(self._projected.square().sum() + self._pending.square().sum())

    def restart(self, values: Tensor, coefficients: Tensor) -> None:
        """Keep only some Ritz pairs, and all that waits.

        Args:
            values: Ritz values, shape (K,).
            coefficients: of their vectors, shape (m, K).
        """
        m, count = self.steps, len(values)
        mix = coefficients.T.to(self._rows.device, self._rows.dtype)
        for begin in range(0, self.size, CHUNK):
            chunk = self._rows[: self._filled, begin : begin + CHUNK]
            chunk[:count] = mix @ chunk[:m]
            chunk[count : count + self.waiting] = chunk[m:].clone()
        self._filled = count + self.waiting
        self._projected = torch.diag(values)
        self._pending = self._pending @ coefficients

    def _project(self, known: Tensor, along: Tensor) -> None:
        """Enter the image of the first waiting vector: it belongs to V from now on."""
        m = self.steps
        wider = torch.zeros((m + 1, m + 1), dtype=torch.float64)
        wider[:m, :m] = self._projected
        wider[m, :m] = wider[:m, m] = known
        wider[m, m] = along[0]
        self._projected = wider
        self._pending = torch.cat([self._pending[1:], along[1:, None]], dim=1)

    def _turn(self, toward: Tensor) -> None:
        """Reflect the waiting vectors among themselves: the first one is the wish."""
        wish = toward.double() / torch.linalg.vector_norm(toward.double())
        normal = wish.clone()
        normal[0] += 1.0 if wish[0] >= 0 else -1.0
        normal /= torch.linalg.vector_norm(normal)
        turn = torch.eye(len(wish), dtype=torch.float64) - 2 * torch.outer(
            normal, normal
        )
        waiting = self._rows[self.steps : self._filled]
        waiting.copy_(turn.to(waiting.device, waiting.dtype) @ waiting)
        self._pending = turn @ self._pending

    def _refill(self) -> None:
        """Where nothing waits and the space is larger, go on in a random direction."""
        while not self.waiting and not self.exhausted:
            self.extend(self.random())

    def _append(self, vector: Tensor, length: float) -> None:
        if self._filled == len(self._rows):
            room = min(self._most, 2 * len(self._rows))
            wider = self._rows.new_empty((room, self.size))
            wider[: self._filled] = self._rows
            self._rows = wider
        self._rows[self._filled] = vector / length
        self._filled += 1

    def _combined(self, coefficients: Tensor) -> Tensor:
        """Sum of basis vectors, of which most have the coefficient 0 as a rule."""
        places = coefficients.nonzero()[:, 0]
        if not len(places):
            return torch.zeros_like(self._rows[0])
        rows = self._rows[: len(coefficients)]
        if 2 * len(places) < len(coefficients):
            rows, coefficients = rows[places.to(rows.device)], coefficients[places]
        combined: Tensor = coefficients.to(rows.device, rows.dtype) @ rows
        return combined

    def _against_all(self, vector: Tensor) -> tuple[Tensor, float, float]:
        """Component orthogonal to the basis, its norm, and the norm of the other one.

        A pass that takes out much leaves rounding errors of that size behind, and is
        repeated; one that finds little has done its work.
        """
        basis = self._rows[: self._filled]
        inside = basis @ vector
        rest = vector - inside @ basis
        norms = torch.stack([lengths(vector), lengths(rest), lengths(inside)])
        before, after, within = agreed(self._H, norms).tolist()
        if after < 0.7 * before:
            rest -= (basis @ rest) @ basis
            after = float(agreed(self._H, lengths(rest)))
        return rest, after, within
