"""Eigenpairs of a symmetric operator by Lanczos with full re-orthogonalisation.

Source: Lanczos, 1950, doi:10.6028/jres.045.026; residual bound and stopping as in
Parlett, The Symmetric Eigenvalue Problem, 1998, doi:10.1137/1.9781611971163,
sections 13.2 and 13.8. Where a second start has left several vectors of the basis
without a product, the space is expanded with the largest residual (Davidson, 1975,
doi:10.1016/0021-9991(75)90065-0).

Shape letters: D parameters in all, K eigenpairs, m Krylov steps, p waiting vectors:
those of the basis that were not multiplied yet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from steppe.errors import SettingError, check_count, check_integer, check_positive
from steppe.linalg.krylov import Krylov, Projection
from steppe.linalg.probes import gaussian, seeded
from steppe.linalg.protocols import (
    LinearOperator,
    check_tensor,
    details_of,
    dimension,
    lengths,
    uncast,
    widened,
)
from steppe.results import Eigenpairs

Which = Literal["LA", "SA", "LM", "BE"]

COPIES = 1000  # up to this D a second random start looks for copies of an eigenvalue
COPIES_STEPS = 10  # a random vector takes at least so many to show an outlier
BLOCK_STEPS = 12  # products from a block: the random part takes some to show new pairs
RANDOM_PART = 0.3  # length of the random part beside the sum of a start block
MARGIN = 8  # Ritz pairs beyond the wanted ones that a thick restart keeps


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
    occurs several times; for D <= 1000 a second start, orthogonal to the first space,
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
        start: start vector, shape (D,), or block (D, K), such as the eigenvectors of a
            few training steps ago: their sum is the start, with a random part beside
            it that sees eigenvalues which came up since. None for a random vector.
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
    block = None if start is None else checked_start(H, start)
    if block is not None:
        first = _mixed(block, first) if block.dim() == 2 else block
    several = block is not None and block.dim() == 2
    least = max(BLOCK_STEPS, 2 * k + 4) if several else max(20, 2 * k + 10)
    with uncast(H):
        krylov = Krylov(H, first, generator, max_basis)
        target = Target(k, which, tol, budget, max_basis or size + 1, least)
        pairs = _search_with_copies(krylov, target)
        order = pairs.values.argsort(descending=True)
        vectors = krylov.vectors(pairs.coefficients[:, order])
    return Eigenpairs(
        values=pairs.values[order],
        vectors=vectors,
        residuals=pairs.residuals[order],
        converged=pairs.converged,
        products=krylov.products,
        details={**details_of(H), "which": which, "tol": tol},
    )


def ends(which: Which, k: int) -> list[tuple[Callable[[Tensor], Tensor], int]]:
    """Wanted ends: a key that is largest there, and a number of pairs."""
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
class Target:
    """Pairs that are wanted, and bounds of the search."""

    k: int
    which: Which
    tol: float
    budget: int  # of products
    basis: int = 2**62  # of vectors in memory
    least: int = 20  # products before the first test: a lucky start hides eigenvalues
    # Values below this share of the largest magnitude are compared with that instead.
    floor: float = 0.0


@dataclass(frozen=True)
class RitzPairs:
    """Wanted Ritz pairs, the verdict on them, and the residual to go on with."""

    values: Tensor  # (K,) float64, on the host
    coefficients: Tensor  # (m, K)
    residuals: Tensor  # (K,) float64, on the host
    converged: bool
    final: bool  # the residuals are rounding errors: more products do not reduce them
    expansion: Tensor  # largest residual, as a combination of waiting vectors: (p,)


def _mixed(block: Tensor, noise: Tensor) -> Tensor:
    """The sum of directions, with a random one that has a tenth of its square."""
    units = block / lengths(block).to(block.dtype)
    known = units.sum(1) / block.shape[1] ** 0.5
    mixed: Tensor = known + noise * (RANDOM_PART / float(lengths(noise)))
    return mixed


def _search_with_copies(krylov: Krylov, target: Target) -> RitzPairs:
    """Search for the pairs, then for copies of their values from other starts."""
    pairs = _search(krylov, target)
    # A Krylov space holds one vector of each eigenspace, that of its start. A second
    # start, orthogonal to the first space, brings another one, if there is another.
    searching = krylov.size <= COPIES
    while searching and pairs.converged and krylov.products < target.budget:
        _restart_when_full(krylov, target)
        if not krylov.extend(krylov.random()):
            break
        again = _search(krylov, target, random_steps=COPIES_STEPS)
        slack = 10 * krylov.epsilon + float(again.residuals.max())
        # New copies push other values out of the wanted ones; the same values, to
        # within their error, say that there were none.
        searching = not torch.allclose(again.values, pairs.values, rtol=0, atol=slack)
        pairs = again
    return pairs


def _search(krylov: Krylov, target: Target, random_steps: int = 0) -> RitzPairs:
    """Expand the space until the pairs converge, it is full or the budget is spent.

    The first `random_steps` products follow the vector that was added last: the wanted
    pairs have converged by then, and their residuals would lead nowhere new.
    """
    pairs, free = None, krylov.products + random_steps
    while True:
        _restart_when_full(krylov, target)
        krylov.step(_expansion(krylov, pairs, newest=krylov.products < free))
        m = krylov.steps
        ended = krylov.exhausted or krylov.products >= target.budget
        due = krylov.products >= max(target.least, free) and _tested(m)
        # With several waiting vectors each step needs the residual of the one before.
        if m < target.k or not (ended or due or krylov.waiting > 1):
            continue
        pairs = selected(krylov.projection(), target)
        if ended or (due and (pairs.converged or pairs.final)):
            return pairs


def shortest(space: Callable[[int], Projection], target: Target) -> RitzPairs:
    """Pairs of the shortest run from one start that has them to the tolerance.

    Args:
        space: a number of steps to the space after them.
        target: wanted pairs, and the budget.
    """
    for m in range(1, target.budget + 1):
        known = space(m)
        ended = known.exhausted or m == target.budget
        if not ended and (m < target.least or not _tested(m)):
            continue
        pairs = selected(known, target)
        if ended or pairs.converged or pairs.final:
            break
    return pairs


def _tested(steps: int) -> bool:
    """Whether to test: it costs m^3 on the host, so it comes less often as m grows."""
    return steps % max(1, steps // 20) == 0


def _expansion(
    krylov: Krylov, pairs: RitzPairs | None, *, newest: bool
) -> Tensor | None:
    """Direction among the waiting vectors to multiply next; None for the oldest."""
    if newest:
        return torch.eye(krylov.waiting, dtype=torch.float64, device="cpu")[-1]
    # A residual from before the number of waiting vectors changed does not apply.
    if pairs is None or len(pairs.expansion) != krylov.waiting:
        return None
    return pairs.expansion if bool(pairs.expansion.any()) else None


def selected(space: Projection, target: Target) -> RitzPairs:
    """Select the wanted Ritz pairs, and compare their residuals with the tolerance."""
    values, coefficients, residuals = space.ritz()
    sizes = values.abs()
    allowed = target.tol * sizes.clamp(min=target.floor * float(sizes.max()))
    allowed = allowed.clamp(min=10 * space.epsilon)
    wanted: list[int] = []
    candidates: list[int] = []  # next in order: may still overtake a wanted pair
    for preference, count in ends(target.which, target.k):
        keys = preference(values)
        places = keys.argsort(descending=True).tolist()
        # Both ends like equal values alike, and may not take the same ones.
        order = [place for place in places if place not in wanted]
        wanted += order[:count]
        for candidate in order[count : count + 1]:
            candidates.append(candidate)
            # A Ritz value moves by its residual at most: one that is smaller than the
            # lead of the last wanted pair cannot change the order.
            lead = keys[order[count - 1]] - keys[candidate]
            allowed[candidate] = torch.maximum(allowed[candidate], lead)
    excess = residuals / allowed.clamp(min=torch.finfo(torch.float64).tiny)
    first = max(wanted, key=excess.__getitem__)
    worst = max(candidates, key=excess.__getitem__, default=first)
    if excess[first] > 1:  # the wanted pairs come before those that threaten them
        worst = first
    rounded = bool((residuals[wanted] <= 2 * space.rounding).all())
    return RitzPairs(
        values[wanted],
        coefficients[:, wanted],
        residuals[wanted],
        converged=not bool((excess[wanted + candidates] > 1).any()),
        final=rounded and space.rounding > space.epsilon,
        expansion=space.residual(coefficients[:, worst]),
    )


def _restart_when_full(krylov: Krylov, target: Target) -> None:
    """Thick restart with the best Ritz pairs, where the next vector has no room."""
    if krylov.steps + krylov.waiting < target.basis:
        return
    values, coefficients, _ = krylov.ritz()
    # The pairs next to the wanted ones stay too: without them a restart forgets the
    # directions that separate the wanted pairs from their neighbours.
    order: dict[int, None] = {}  # a set that keeps its order: both ends may overlap
    sides = ends(target.which, target.k)
    for preference, count in sides:
        best = preference(values).argsort(descending=True).tolist()
        order |= dict.fromkeys(best[: count + MARGIN // len(sides)])
    krylov.restart(values[list(order)], coefficients[:, list(order)])


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
