"""Eigenpairs of a symmetric operator by Lanczos with full re-orthogonalisation.

Source: Lanczos, 1950, doi:10.6028/jres.045.026; residual bound and stopping as in
Parlett, The Symmetric Eigenvalue Problem, 1998, doi:10.1137/1.9781611971163,
sections 13.2 and 13.8.

Shape letters: D parameters in all, K eigenpairs, m Krylov steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.linalg.krylov import Krylov
from steppe.linalg.operator import (
    LinearOperator,
    dimension,
    gaussian,
    seeded,
    uncast,
    widened,
)
from steppe.results import Eigenpairs

Which = Literal["LA", "SA", "LM"]

SECOND_LOOK = 1000  # up to this D a second start looks for copies of an eigenvalue
SECOND_STEPS = 10  # that look is at least this long


def eigsh(
    H: LinearOperator,
    k: int = 1,
    *,
    which: Which = "LA",
    tol: float = 1e-3,
    max_products: int | None = None,
    start: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Eigenpairs:
    """Some eigenvalues at one end of the spectrum, with their vectors.

    Runs until the Ritz residuals of all wanted pairs are within the tolerance and the
    next pair cannot overtake them. One start vector sees one copy of an eigenvalue that
    occurs several times; for D <= 1000 a second start, orthogonal to what was found,
    looks for more. A larger operator may show fewer copies than it has. An operator in
    half precision has residuals of at least its rounding error: about 0.008 of the
    largest magnitude in bfloat16, 0.001 in float16, so that a smaller `tol` is not met.

    Args:
        H: symmetric operator of shape (D, D), or a dense tensor.
        k: number of eigenpairs, 1 to D.
        which: "LA" the algebraically largest, "SA" the smallest, "LM" the largest
            magnitudes.
        tol: largest residual norm as a share of the magnitude of the eigenvalue; the
            error of the value is of the order of its square.
        max_products: budget of operator-vector products; None for max(200, 20 k).
        start: start vector, shape (D,), or a block (D, K) whose sum is the start, such
            as the eigenvectors found a few training steps ago; None for a random one.
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
    budget = max(200, 20 * k) if max_products is None else max_products
    _check(size, k, which, tol, budget)
    with uncast(H):
        aim = _Aim(k, which, tol, max(20, 2 * k + 10))
        found, spent = _search_twice(H, aim, budget, start, seeded(generator))
    order = found.values.argsort(descending=True)
    return Eigenpairs(
        values=found.values[order],
        vectors=found.vectors[:, order.to(found.vectors.device)],
        residuals=found.residuals[order],
        converged=found.converged,
        products=spent,
    )


@dataclass(frozen=True)
class _Aim:
    k: int
    which: Which
    tol: float
    steps: int  # never fewer, unless the whole space is spanned: a lucky start
    bar: float = -torch.inf  # a preference; nothing that stays below it is of interest


@dataclass(frozen=True)
class _Ritz:
    values: Tensor  # (K,) float64, on the host
    vectors: Tensor  # (D, K)
    residuals: Tensor  # (K,) float64, on the host
    converged: bool


def _search_twice(
    H: LinearOperator,
    aim: _Aim,
    budget: int,
    start: Tensor | None,
    generator: torch.Generator,
) -> tuple[_Ritz, int]:
    """Search, look for copies of what was found, and count the products."""
    first = gaussian(H, generator) if start is None else _start(H, start)
    krylov = Krylov(H, first, generator)
    found = _search(krylov, aim, budget)
    spent = krylov.steps
    looking = not krylov.exhausted and krylov.size <= SECOND_LOOK
    while looking and found.converged and spent < budget:
        again = Krylov(H, gaussian(H, generator), generator, found.vectors)
        bar = float(_preference(found.values, aim.which).min())
        look = _Aim(1, aim.which, aim.tol, SECOND_STEPS, bar)
        more = _search(again, look, budget - spent)
        spent += again.steps
        looking = float(_preference(more.values, aim.which)[0]) > bar
        if looking:
            found = _best(found, more, aim.k, aim.which)
    return found, spent


def _search(krylov: Krylov, aim: _Aim, budget: int) -> _Ritz:
    """Extend until the aim is met, the space is spanned or the budget is spent."""
    while True:
        krylov.step()
        m = krylov.steps
        last = krylov.exhausted or m >= budget
        due = m >= aim.steps and m % max(1, m // 20) == 0
        if m < aim.k or not (last or due):
            continue
        values, coefficients, residuals = krylov.ritz()
        order = _preference(values, aim.which).argsort(descending=True)
        met = _met(values[order], residuals[order], krylov, aim)
        # Where rounding is all that is left, more products make nothing better.
        done = bool((residuals[order[: aim.k]] <= 2 * krylov.rounding).all())
        if met or last or (done and krylov.rounding > krylov.epsilon):
            break
    wanted = order[: aim.k]
    chosen = coefficients[:, wanted]
    coupled = torch.hypot(residuals[wanted], krylov.couplings(chosen))
    met = met and bool((coupled <= _allowed(values[wanted], krylov, aim)).all())
    return _Ritz(values[wanted], krylov.vectors(chosen), coupled, met)


def _allowed(values: Tensor, krylov: Krylov, aim: _Aim) -> Tensor:
    return (aim.tol * values.abs()).clamp(min=10 * krylov.epsilon)


def _met(values: Tensor, residuals: Tensor, krylov: Krylov, aim: _Aim) -> bool:
    preference = _preference(values, aim.which)
    if float(preference[0] + residuals[0]) <= aim.bar:
        return True
    allowed = _allowed(values, krylov, aim)
    if bool((residuals > allowed)[: aim.k].any()):
        return False
    if len(values) <= aim.k:
        return True
    # The next pair may still be on its way up to a place among the wanted ones.
    lead = preference[aim.k - 1] - preference[aim.k]
    return bool(residuals[aim.k] <= torch.maximum(allowed[aim.k], lead))


def _best(found: _Ritz, more: _Ritz, k: int, which: Which) -> _Ritz:
    values = torch.cat([found.values, more.values])
    best = _preference(values, which).argsort(descending=True)[:k]
    vectors = torch.cat([found.vectors, more.vectors], dim=1)
    return _Ritz(
        values[best],
        vectors[:, best.to(vectors.device)],
        torch.cat([found.residuals, more.residuals])[best],
        found.converged and more.converged,
    )


def _preference(values: Tensor, which: Which) -> Tensor:
    return {"LA": values, "SA": -values, "LM": values.abs()}[which]


def _start(H: LinearOperator, start: Tensor) -> Tensor:
    size = dimension(H)
    if start.dim() not in (1, 2) or start.shape[0] != size:
        raise SettingError(
            f"start must have the shape ({size},) or ({size}, K), "
            f"got {tuple(start.shape)}."
        )
    vector = start if start.dim() == 1 else start.sum(1)
    length = float(torch.linalg.vector_norm(vector.double()))
    if not 0 < length < torch.inf:
        raise SettingError(f"start must be finite and not zero, its norm is {length}.")
    return vector.to(device=H.device, dtype=H.dtype)


def _check(size: int, k: int, which: str, tol: float, budget: int) -> None:
    if not 1 <= k <= size:
        raise SettingError(f"k must be from 1 to {size} (the size of H), got {k}.")
    if which not in get_args(Which):
        raise SettingError(f"which must be 'LA', 'SA' or 'LM', got {which!r}.")
    if not tol > 0:
        raise SettingError(f"tol must be > 0, got {tol}.")
    if budget < k:
        raise SettingError(f"max_products must be >= k = {k}, got {budget}.")
