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

import dataclasses

import torch
from torch import Tensor

from steppe.linalg.basis import Basis
from steppe.linalg.probes import gaussian
from steppe.linalg.protocols import LinearOperator, agreed, dimension, lengths, product
from steppe.linalg.symmetry import check_symmetry


@dataclasses.dataclass(frozen=True)
class Projection:
    """An operator as m Krylov steps know it: H V = V T + P R; float64, on the host."""

    inner: Tensor  # T (m, m)
    coupling: Tensor  # R (p, m)
    epsilon: float  # rounding error of the basis: its precision times the size of H
    rounding: float  # of a product: the operator's precision times its size
    exhausted: bool  # whether the basis spans the whole space

    @property
    def steps(self) -> int:
        """Number m of vectors that were multiplied."""
        return len(self.inner)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz values (m,) ascending, coefficients (m, m), residuals (m,), float64.

        The residuals include the rounding error of the products.
        """
        values, coefficients = torch.linalg.eigh(self.inner)
        residuals = torch.linalg.vector_norm(self.coupling @ coefficients, dim=0)
        return values, coefficients, residuals + self.rounding

    def residual(self, coefficients: Tensor) -> Tensor:
        """Residual H y - y T y of a combination y, among the waiting vectors: (p,)."""
        return self.coupling @ coefficients

    def square(self) -> float:
        """Sum of the squares of the products of H with the basis."""
        return float(self.inner.square().sum() + self.coupling.square().sum())


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
        rows = self.size if most is None else min(self.size, most)
        self.basis = Basis(self.size, wide, H.device, rows)  # first V, then P
        self.products = 0
        # Largest length of a product after each step: the scale of H.
        self._reach = [0.0]
        self._projected = torch.zeros((0, 0), dtype=torch.float64, device="cpu")  # T
        self._pending = torch.zeros((0, 0), dtype=torch.float64, device="cpu")  # R
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
        precision: float = torch.finfo(self.basis.dtype).eps
        return precision * self._reach[-1]

    @property
    def rounding(self) -> float:
        """Rounding error of a product: the operator's precision times its size."""
        precision: float = torch.finfo(self._H.dtype).eps
        return precision * self._reach[-1]

    def projection(self, steps: int | None = None) -> Projection:
        """The projection onto the vectors that were multiplied.

        Args:
            steps: number m of vectors, of a run in which one vector waited at a time:
                then the first m are the run that ended there, to the last bit; None
                for all.
        """
        m = self.steps if steps is None else steps
        known = self._projected[m : m + 1, :m] if m < self.steps else self._pending
        # A restart or a new start makes numbers of its own of all steps before.
        reach = self._reach[-1] if steps is None else self._reach[m]
        return Projection(
            inner=self._projected[:m, :m].clone(),
            coupling=known.clone(),
            epsilon=torch.finfo(self.basis.dtype).eps * reach,
            rounding=torch.finfo(self._H.dtype).eps * reach,
            exhausted=m >= self.size,
        )

    def random(self) -> Tensor:
        """A vector drawn at random, shape (D,)."""
        return gaussian(self._H, self._generator)

    def extend(self, vector: Tensor) -> bool:
        """Let a vector wait too; False, and nothing is done, if it brings nothing new.

        Args:
            vector: shape (D,), of any length but 0.
        """
        if len(self.basis) >= self.size:
            return False
        vector = vector.to(self.basis.dtype)
        rest, after, _ = self._against_all(vector)
        if not after > 1e-5 * float(lengths(vector)):
            return False
        self.basis.append(rest / after)
        row = torch.zeros((1, self.steps), dtype=torch.float64, device="cpu")
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
        current = self.basis.row(m)
        image = product(self._H, current.to(self._H.dtype)).to(current.dtype)
        self.products += 1
        # H is symmetric: the coefficients of the image along V are those that earlier
        # images had along this vector, and only those along P have to be computed.
        known = self._pending[0]
        along = agreed(self._H, self.basis.rows(m, m + p) @ image).double().cpu()
        rest = image - self._combined(torch.cat([known, along]))
        # The rest is orthogonal to the basis in exact arithmetic, if the operator is
        # symmetric: a component that is left along the basis shows that it is not.
        rest, beta, left = self._against_all(rest)
        reach = max(self._reach[-1], float(known.norm() + along.norm()) + beta)
        check_symmetry(self._H, left, reach)
        # A shorter rest is rounding: the space is invariant, and a vector made from it
        # would be noise that passes for a direction of H.
        shortest = 10 * torch.finfo(self.basis.dtype).eps * reach
        grows = beta > shortest and len(self.basis) < self.size
        # Memory first: where there is none, the space stays as it was.
        if grows:
            self.basis.append(rest / beta)
        self._reach.append(reach)
        self._project(known, along)
        if grows:
            row = torch.zeros((1, m + 1), dtype=torch.float64, device="cpu")
            row[0, m] = beta
            self._pending = torch.cat([self._pending, row])
        self._refill()

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Ritz pairs of all steps, as `Projection.ritz` gives them."""
        return self.projection().ritz()

    def vectors(self, coefficients: Tensor) -> Tensor:
        """Combinations of the basis, coefficients (m, K) to vectors (D, K)."""
        return self.basis.combined(coefficients)

    def overlaps(self, other: Krylov, steps: int) -> Tensor:
        """Inner products with the basis of another space, (m, m), float64, on the host.

        Args:
            other: space of the same operator.
            steps: m, of both.
        """
        basis = self.basis.overlaps(steps, other.basis, steps)
        return agreed(self._H, basis).double().cpu()

    def restart(self, values: Tensor, coefficients: Tensor) -> None:
        """Keep only some Ritz pairs, and all that waits.

        Args:
            values: Ritz values, shape (K,).
            coefficients: of their vectors, shape (m, K).
        """
        m, count = self.steps, len(values)
        mix = torch.zeros(
            (count + self.waiting, m + self.waiting), dtype=torch.float64, device="cpu"
        )
        mix[:count, :m] = coefficients.T
        mix[count:, m:] = torch.eye(self.waiting, device="cpu")
        self.basis.change(0, mix)
        self._projected = torch.diag(values)
        self._pending = self._pending @ coefficients

    def _project(self, known: Tensor, along: Tensor) -> None:
        """Enter the image of the first waiting vector: it belongs to V from now on."""
        m = self.steps
        wider = torch.zeros((m + 1, m + 1), dtype=torch.float64, device="cpu")
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
        turn = torch.eye(
            len(wish), dtype=torch.float64, device="cpu"
        ) - 2 * torch.outer(normal, normal)
        self.basis.change(self.steps, turn)
        self._pending = turn @ self._pending

    def _refill(self) -> None:
        """Where nothing waits and the space is larger, go on in a random direction."""
        while not self.waiting and not self.exhausted:
            self.extend(self.random())

    def _combined(self, coefficients: Tensor) -> Tensor:
        """Sum of basis vectors, of which most have the coefficient 0 as a rule."""
        places = coefficients.nonzero()[:, 0].tolist()
        if 2 * len(places) >= len(coefficients):
            return self.basis.combined(coefficients)
        total = torch.zeros_like(self.basis.row(0))
        for place in places:
            total.add_(self.basis.row(place), alpha=float(coefficients[place]))
        return total

    def _against_all(self, vector: Tensor) -> tuple[Tensor, float, float]:
        """Component orthogonal to the basis, its norm, and the norm of the other one.

        A pass that takes out much leaves rounding errors of that size behind, and is
        repeated; one that finds little has done its work.
        """
        inside = self.basis.along(vector)
        rest = vector - self.basis.combined(inside)
        norms = torch.stack([lengths(vector), lengths(rest), lengths(inside)])
        before, after, within = agreed(self._H, norms).tolist()
        if after < 0.7 * before:
            rest -= self.basis.combined(self.basis.along(rest))
            after = float(agreed(self._H, lengths(rest)))
        return rest, after, within
