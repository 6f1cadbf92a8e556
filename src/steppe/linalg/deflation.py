"""Random draws of a symmetric operator, corrected by its part on a Krylov space.

Of an operator H = M + W the space knows M = V T V' + V R' P' + P R V' exactly, from the
products that made it. Draws of z' H z - z' M z and |H z|^2 - |M z|^2 have the means
tr W and |W|^2 with less variance than those of H (control variates; the space is that
of Hallman, 2025, arXiv:2512.02316, in place of the products of Meyer et al., 2021,
arXiv:2010.09649). The products are those of H with the signs z alone, so that draws
that were made before there was a space are corrected too.

Shape letters: D parameters in all, m Krylov steps, n = m + p vectors of the basis,
K draws, L parts.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from steppe.linalg.krylov import Krylov
from steppe.linalg.probes import drawn_seed, gaussian, rademacher
from steppe.linalg.protocols import (
    LinearOperator,
    agreed,
    dimension,
    lengths,
    product,
    uncast,
)
from steppe.linalg.sampling import Sample
from steppe.linalg.symmetry import check_drawn
from steppe.seeds import stream

STEPS = 30  # of the Krylov space that is taken out
COLUMNS = 10  # draws per product with the operator
ENTRIES = 2**26  # entries of such a block at most

Rows = tuple[Tensor, Tensor]  # parts of z' H z (L, K), and |H z|^2 (K,); float64


class KnownPart:
    """The matrix M, by sums over parts of its diagonal and by draws.

    Args:
        H: the operator, whose processes agree.
        krylov: a Krylov space of it.
        parts: where each of the L parts lies in a vector; together they are all of it.
        steps: m, of a run in which one vector waited at a time; None for all.
    """

    def __init__(
        self,
        H: LinearOperator,
        krylov: Krylov,
        parts: Sequence[slice],
        steps: int | None = None,
    ) -> None:
        self._H, self._basis, self._parts = H, krylov.basis, parts
        known = krylov.projection(steps)
        m, p = known.steps, len(known.coupling)
        matrix = torch.zeros((m + p, m + p), dtype=torch.float64, device="cpu")
        matrix[:m, :m] = known.inner
        matrix[m:, :m], matrix[:m, m:] = known.coupling, known.coupling.T
        self._matrix = matrix
        self.traces = torch.stack([self._trace(part) for part in parts])  # (L,)
        self.square = float(matrix.square().sum())

    def draws(self, signs: Tensor) -> Rows:
        """Parts of z' M z, and |M z|^2, for random vectors (D, K)."""
        wide = signs.to(self._basis.dtype)
        with uncast(self._H):
            inside = [self._along(wide[part], part) for part in self._parts]
        images = self._matrix @ torch.stack(inside).sum(0)
        products = torch.stack([(each * images).sum(0) for each in inside])
        return products, images.square().sum(0)

    def _along(self, vectors: Tensor, part: slice) -> Tensor:
        along = self._basis.along(vectors, len(self._matrix), part)
        return agreed(self._H, along).double().cpu()

    def _trace(self, part: slice) -> Tensor:
        if len(self._parts) == 1:  # over all of a vector the basis is orthonormal
            return self._matrix.trace()
        with uncast(self._H):
            gram = agreed(self._H, self._basis.gram(len(self._matrix), part))
        return (self._matrix * gram.double().cpu()).sum()


class AbstractDraws(abc.ABC):
    """Draws z' H z and |H z|^2 by number: the first ones are the same for all."""

    @abc.abstractmethod
    def drawn(self, count: int) -> Rows:
        """The first K draws."""

    @abc.abstractmethod
    def known(self) -> tuple[Tensor, float]:
        """Parts of the trace of M, (L,), and its sum of squares."""

    @abc.abstractmethod
    def known_drawn(self, count: int) -> Rows:
        """The same draws of M."""

    def traces(self, count: int, *, deflated: bool) -> Sample:
        """Parts of the trace from the first K draws, corrected or as they are."""
        drawn = self.drawn(count)[0]
        if not deflated:
            return Sample(
                torch.zeros(len(drawn), dtype=torch.float64, device="cpu"), drawn
            )
        return Sample(self.known()[0], drawn - self.known_drawn(count)[0])

    def squares(self, count: int) -> Sample:
        """The sum of squares of H from the first K draws, corrected."""
        inside = torch.tensor([self.known()[1]], dtype=torch.float64, device="cpu")
        rest = self.drawn(count)[1] - self.known_drawn(count)[1]
        return Sample(inside, rest[None])


class Draws(AbstractDraws):
    """Draws of an operator, and the products they took.

    Args:
        H: symmetric operator of shape (D, D).
        generator: of the random signs, and of the space where none is given.
        parts: where each of the L parts lies in a vector; together they are all of it.
        krylov: space to correct the draws with; None for one of its own, where a
            corrected draw is asked for.
    """

    def __init__(
        self,
        H: LinearOperator,
        generator: torch.Generator,
        parts: Sequence[slice],
        krylov: Krylov | None = None,
    ) -> None:
        self._H, self._generator, self._parts = H, generator, parts
        self._seed = drawn_seed(generator)
        self._krylov = krylov
        self._known: KnownPart | None = None
        self._rows = [_no_rows(parts), _no_rows(parts)]  # of H and of M
        self.products = 0

    def drawn(self, count: int) -> Rows:
        """The first K draws, one product each."""
        missing = count - len(self._rows[0][1])
        self.products += max(0, missing)
        return self._more(0, count, lambda z: products(self._H, z, self._parts))

    def known(self) -> tuple[Tensor, float]:
        """Parts of the trace of M, (L,), and its sum of squares."""
        part = self._part()
        return part.traces, part.square

    def known_drawn(self, count: int) -> Rows:
        """The same draws of M, from signs that are drawn again."""
        return self._more(1, count, self._part().draws)

    def _more(self, place: int, count: int, rows: Callable[[Tensor], Rows]) -> Rows:
        for numbers in blocks(self._H, range(len(self._rows[place][1]), count)):
            vectors = [self._signs(number) for number in numbers]
            fresh = rows(torch.stack(vectors, dim=1))
            self._rows[place] = _joined(self._rows[place], fresh)
        traces, squares = self._rows[place]
        return traces[:, :count], squares[:count]

    def _signs(self, number: int) -> Tensor:
        source = stream(self._seed, number, device=self._generator.device)
        return rademacher(self._H, 1, source)[:, 0]

    def _part(self) -> KnownPart:
        if self._known is None:
            if self._krylov is None:
                self._krylov = space(self._H, self._generator)
                self.products += self._krylov.products
            self._known = KnownPart(self._H, self._krylov, self._parts)
        return self._known


def blocks(H: LinearOperator, numbers: range) -> list[range]:
    """Numbers of draws in blocks that one product with a matrix takes."""
    width = max(1, min(COLUMNS, ENTRIES // dimension(H)))
    return [numbers[begin : begin + width] for begin in range(0, len(numbers), width)]


def products(H: LinearOperator, z: Tensor, parts: Sequence[slice]) -> Rows:
    """Parts of z' H z, and |H z|^2, for random vectors (D, K)."""
    with uncast(H):
        image = product(H, z)
    # Neighbours among the draws show whether H is symmetric, at no further product.
    check_drawn(H, z[:, :-1], image[:, :-1], z[:, 1:], image[:, 1:])
    # Signs change no digit: all rounding is that of the product.
    both = z * image
    sums = [both[part].sum(0, dtype=torch.float64) for part in parts]
    rows = torch.cat([torch.stack(sums), lengths(image).square()[None]])
    rows = agreed(H, rows).cpu()
    return rows[:-1], rows[-1]


def named_parts(H: LinearOperator) -> Mapping[str, slice]:
    """Places of the tensors of H's parameters in its vectors; {} without names."""
    slices: Mapping[str, slice] = getattr(H, "slices", {})
    return slices


def space(H: LinearOperator, generator: torch.Generator) -> Krylov:
    """The Krylov space to correct draws with, which may be all there is."""
    with uncast(H):
        krylov = Krylov(H, gaussian(H, generator), generator)
        for _ in range(min(STEPS, dimension(H))):
            krylov.step()
    return krylov


def _no_rows(parts: Sequence[slice]) -> Rows:
    empty = torch.zeros((len(parts), 0), dtype=torch.float64, device="cpu")
    return empty, empty.sum(0)


def _joined(rows: Rows, fresh: Rows) -> Rows:
    return torch.cat([rows[0], fresh[0]], dim=1), torch.cat([rows[1], fresh[1]])
