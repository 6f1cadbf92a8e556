"""Eigenpairs of a symmetric operator by Lanczos with full re-orthogonalisation.

Source: Lanczos, 1950, doi:10.6028/jres.045.026; residual bound and stopping as in
Parlett, The Symmetric Eigenvalue Problem, 1998, doi:10.1137/1.9781611971163,
sections 13.2 and 13.8; where a look for copies has let several vectors wait, the
largest residual is multiplied next (Davidson, 1975, doi:10.1016/0021-9991(75)90065-0).

Shape letters: D parameters in all, K eigenpairs, m Krylov steps, p waiting vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from steppe.errors import SettingError, check_count, check_integer, check_positive
from steppe.linalg.krylov import Krylov
from steppe.linalg.protocols import (
    LinearOperator,
    check_tensor,
    described,
    dimension,
    gaussian,
    lengths,
    seeded,
    uncast,
    widened,
)
from steppe.results import Eigenpairs

Which = Literal["LA", "SA", "LM", "BE"]

SECOND_LOOK = 1000  # up to this D a second start looks for copies of an eigenvalue
SECOND_STEPS = 10  # so many at least it takes a random vector to show an outlier
LEAST = 12  # products from a block: the random part takes some to show what is new
MIXED = 0.3  # length of what is random beside the sum of a start block
MARGIN = 8  # Ritz pairs beyond the wanted ones that a restart keeps


def eigsh(
    H: LinearOperator,
    k: int = 1,
    *,
    which: Which = "LA",
    tol: float = 1e-3,
    max_products: int | None = None,
    start: Tensor | None = None,
    max_basis: int | None = None,
    generator: torch.Generator | None = None,
) -> Eigenpairs:
    """Some eigenvalues at one end or both ends of the spectrum, with their vectors.

    Runs until the Ritz residuals of all wanted pairs are within the tolerance and the
    next pair cannot overtake them. One start vector sees one copy of an eigenvalue that
    occurs several times; for D <= 1000 a second start, orthogonal to what was found,
    looks for more. A larger operator may show fewer copies than it has. An operator in
    half precision has residuals of at least its rounding error: about 0.008 of the
    largest magnitude in bfloat16, 0.001 in float16, so that a smaller `tol` is not met.

    Memory is that of the basis: a vector of D numbers for each product.

    Args:
        H: symmetric operator of shape (D, D), or a dense tensor.
        k: number of eigenpairs, 1 to D.
        which: "LA" the algebraically largest, "SA" the smallest, "LM" the largest
            magnitudes, "BE" half of them from each end, of an odd number one more from
            the top.
        tol: largest residual norm as a share of the magnitude of the eigenvalue; the
            error of the value is of the order of its square. Residuals of ten rounding
            errors of the largest eigenvalue are small enough, too.
        max_products: budget of operator-vector products; None for max(200, 20 k).
        start: start vector, shape (D,), or block (D, K), such as the eigenvectors found
            a few training steps ago: their sum is the start, with something random
            beside that finds what has come up since. None for a random vector.
        max_basis: vectors in memory at most, at least 2 k + 10; the search then starts
            again from its best pairs whenever it is full. None for no bound.
        generator: of the random vectors; None for seed 0 on the CPU.

    Returns:
        Eigenpairs, values descending; `converged` is False where the budget ended
        first.

    Raises:
        SettingError: a setting out of range, or a product that is not finite.

    Example:
        >>> H = torch.diag(torch.tensor([3.0, 1.0, 2.0], dtype=torch.float64))
        >>> [round(value, 9) for value in eigsh(H, k=2).values.tolist()]
        [3.0, 2.0]
    """
    size = dimension(H)
    H = widened(H)
    check_integer("k", k)
    budget = max(200, 20 * k) if max_products is None else max_products
    _check(size, k, which, tol, budget, max_basis)
    generator = seeded(generator)
    first = gaussian(H, generator)
    if start is not None:
        given = checked_start(H, start)
        first = _mixed(given, first) if given.dim() == 2 else given
    several = start is not None and start.dim() == 2
    least = max(LEAST, 2 * k + 4) if several else max(20, 2 * k + 10)
    with uncast(H):
        krylov = Krylov(H, first, generator, max_basis)
        aim = _Aim(k, which, tol, budget, max_basis or size + 1, least)
        found = _search_twice(krylov, aim)
        order = found.values.argsort(descending=True)
        vectors = krylov.vectors(found.coefficients[:, order])
    return Eigenpairs(
        values=found.values[order],
        vectors=vectors,
        residuals=found.residuals[order],
        converged=found.converged,
        products=krylov.products,
        details={**described(H), "which": which, "tol": tol},
    )


def ends(which: Which, k: int) -> list[tuple[Callable[[Tensor], Tensor], int]]:
    """What makes a value preferred, and how many are wanted by that preference."""
    up, down = torch.Tensor.clone, torch.neg
    sides: dict[str, list[tuple[Callable[[Tensor], Tensor], int]]] = {
        "LA": [(up, k)],
        "SA": [(down, k)],
        "LM": [(torch.abs, k)],
        "BE": [(up, k - k // 2), (down, k // 2)],
    }
    return [(preference, count) for preference, count in sides[which] if count]


def checked_start(H: LinearOperator, start: Tensor) -> Tensor:
    """A start block on the device and in the precision of H.

    Raises:
        SettingError: another shape, or columns that are zero or not finite.
    """
    size = dimension(H)
    check_tensor("start", start)
    if start.dim() not in (1, 2) or start.shape[0] != size or not start.numel():
        raise SettingError(
            f"start must have the shape ({size},) or ({size}, K), "
            f"got {tuple(start.shape)}."
        )
    sizes = lengths(start)
    if not bool(((sizes > 0) & sizes.isfinite()).all()):
        raise SettingError(
            f"start must be finite and not zero, its norms are {sizes.tolist()}."
        )
    return start.to(device=H.device, dtype=H.dtype)


@dataclass(frozen=True)
class _Aim:
    k: int
    which: Which
    tol: float
    budget: int  # of products
    room: int  # of basis vectors
    least: int  # products before the first look: a lucky start may hide something


@dataclass(frozen=True)
class _Found:
    values: Tensor  # (K,) float64, on the host
    coefficients: Tensor  # (m, K)
    residuals: Tensor  # (K,) float64, on the host
    converged: bool
    final: bool  # rounding is all that is left: more products make nothing better
    weakest: Tensor  # the residual to work on, among the waiting vectors: (p,)


def _mixed(block: Tensor, noise: Tensor) -> Tensor:
    """The sum of directions, with a random one that has a tenth of its square."""
    units = block / lengths(block).to(block.dtype)
    known = units.sum(1) / block.shape[1] ** 0.5
    mixed: Tensor = known + noise * (MIXED / float(lengths(noise)))
    return mixed


def _search_twice(krylov: Krylov, aim: _Aim) -> _Found:
    """Search, and look for copies of what was found."""
    found = _search(krylov, aim)
    looking = krylov.size <= SECOND_LOOK
    while looking and found.converged and krylov.products < aim.budget:
        _make_room(krylov, aim)
        if not krylov.extend(krylov.random()):
            break
        again = _search(krylov, aim, astray=SECOND_STEPS)
        slack = 10 * krylov.epsilon + float(again.residuals.max())
        looking = not torch.allclose(again.values, found.values, rtol=0, atol=slack)
        found = again
    return found


def _search(krylov: Krylov, aim: _Aim, astray: int = 0) -> _Found:
    """Extend until the aim is met, the space is spanned or the budget is spent.

    The first `astray` steps go along the vector that was added last, and where that
    leads.
    """
    found, last = None, krylov.products + astray
    while True:
        _make_room(krylov, aim)
        krylov.step(_toward(krylov, found, astray=krylov.products < last))
        m = krylov.steps
        ended = krylov.exhausted or krylov.products >= aim.budget
        due = krylov.products >= max(aim.least, last) and m % max(1, m // 20) == 0
        if m < aim.k or not (ended or due or krylov.waiting > 1):
            continue
        found = _look(krylov, aim)
        if ended or (due and (found.converged or found.final)):
            return found


def _toward(krylov: Krylov, found: _Found | None, *, astray: bool) -> Tensor | None:
    if astray:
        return torch.eye(krylov.waiting, dtype=torch.float64)[-1]
    if found is None or len(found.weakest) != krylov.waiting:
        return None
    return found.weakest if bool(found.weakest.any()) else None


def _look(krylov: Krylov, aim: _Aim) -> _Found:
    """The wanted pairs, whether they will do, and what stands most in the way."""
    values, coefficients, residuals = krylov.ritz()
    allowed = (aim.tol * values.abs()).clamp(min=10 * krylov.epsilon)
    wanted: list[int] = []
    following: list[int] = []  # may still be on the way to a place among the wanted
    for preference, count in ends(aim.which, aim.k):
        liked = preference(values)
        places = liked.argsort(descending=True).tolist()
        # Both ends like equal values alike, and may not take the same ones.
        order = [place for place in places if place not in wanted]
        wanted += order[:count]
        for after in order[count : count + 1]:
            following.append(after)
            lead = liked[order[count - 1]] - liked[after]
            allowed[after] = torch.maximum(allowed[after], lead)
    excess = residuals / allowed.clamp(min=torch.finfo(torch.float64).tiny)
    first = max(wanted, key=excess.__getitem__)
    weakest = max(following, key=excess.__getitem__, default=first)
    if excess[first] > 1:
        weakest = first
    bare = bool((residuals[wanted] <= 2 * krylov.rounding).all())
    return _Found(
        values[wanted],
        coefficients[:, wanted],
        residuals[wanted],
        converged=not bool((excess[wanted + following] > 1).any()),
        final=bare and krylov.rounding > krylov.epsilon,
        weakest=krylov.residual(coefficients[:, weakest]),
    )


def _make_room(krylov: Krylov, aim: _Aim) -> None:
    """Where the next vector has no room, start again from the best pairs."""
    if krylov.steps + krylov.waiting < aim.room:
        return
    values, coefficients, _ = krylov.ritz()
    kept: dict[int, None] = {}
    sides = ends(aim.which, aim.k)
    for preference, count in sides:
        order = preference(values).argsort(descending=True).tolist()
        kept |= dict.fromkeys(order[: count + MARGIN // len(sides)])
    krylov.restart(values[list(kept)], coefficients[:, list(kept)])


def _check(
    size: int, k: int, which: str, tol: float, budget: int, max_basis: int | None
) -> None:
    if not 1 <= k <= size:
        raise SettingError(f"k must be from 1 to {size} (the size of H), got {k}.")
    if which not in get_args(Which):
        raise SettingError(f"which must be 'LA', 'SA', 'LM' or 'BE', got {which!r}.")
    check_positive("tol", tol)
    check_integer("max_products", budget)
    if budget < k:
        raise SettingError(f"max_products must be >= k = {k}, got {budget}.")
    if max_basis is not None:
        check_count("max_basis", max_basis, 1)
    if max_basis is not None and max_basis < 2 * k + 10:
        raise SettingError(
            f"max_basis must be >= 2 k + 10 = {2 * k + 10}, got {max_basis}."
        )
