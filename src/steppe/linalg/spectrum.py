"""The whole spectrum of a symmetric operator from one Krylov run for each probe.

Stochastic Lanczos quadrature: Golub and Meurant, 2010, Matrices, Moments and Quadrature
with Applications, chapter 3; for networks Ghorbani et al., 2019, arXiv:1901.10159. The
first run also gives the pairs at both ends, and all that it spans of the trace and the
Frobenius norm; a few draws give the rest.

Shape letters: D parameters in all, K eigenpairs, M probes, m Krylov steps.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import torch

from steppe.errors import SettingError, check_count, check_positive
from steppe.linalg.deflation import Draws
from steppe.linalg.krylov import Krylov
from steppe.linalg.probes import rademacher, seeded
from steppe.linalg.protocols import (
    LinearOperator,
    SupportsExactTrace,
    details_of,
    dimension,
    uncast,
    widened,
)
from steppe.linalg.quadrature import quadrature
from steppe.linalg.sampling import rooted
from steppe.results import Eigenpairs, Estimate, Spectrum


def spectrum(
    H: LinearOperator,
    *,
    steps: int = 100,
    probes: int = 1,
    draws: int = 10,
    k: int | None = None,
    tol: float = 1e-2,
    generator: torch.Generator | None = None,
) -> Spectrum:
    """Pairs at both ends, density, trace and norm: `steps * probes + draws` products.

    Every probe is a vector of random signs from which a Krylov space is built. More
    steps resolve finer detail, more probes average over the start; at equal cost steps
    matter as much. Memory is `steps` vectors of D numbers, twice where probes > 1.

    A pair that has converged, apart from its neighbours and from 0, counts as one
    eigenvalue exactly; only the other weights are random. Whether it is one is known
    from two probes: of a multiple eigenvalue they see two vectors, and its weight stays
    as it was drawn. A single probe sees one vector of an eigenspace, so the pair is
    taken for one eigenvalue unless its weight is above 10.83 / D, which one eigenvalue
    has once in a thousand starts: take `probes=2` where eigenvalues may have copies.
    What is 0 to within the residual is never taken for one. The other weights agree
    with the trace, as far as that is known.

    Args:
        H: symmetric operator of shape (D, D), or a dense tensor.
        steps: Krylov steps m of each probe, at least 2; not more than D are made.
        probes: random starts M, at least 1.
        draws: random signs that estimate the trace and the norm of the part of H that
            the first run does not span; at least 2.
        k: eigenpairs wanted at each end, at most `steps`; 0 for none, None for five,
            or all where there are fewer.
        tol: residual norm of these pairs as a share of the magnitude of the value,
            within which they are called converged.
        generator: of the probes and draws; None for seed 0 on the CPU.

    Returns:
        Spectrum, with the standard errors of trace and norm over the draws. A trace
        that H knows exactly (see `trace`) is taken from there.

    Raises:
        SettingError: a setting out of range, or a product that is not finite.

    Example:
        >>> spectral = spectrum(torch.diag(torch.arange(1.0, 5.0)), steps=4, k=1)
        >>> round(spectral.trace.value, 4), round(float(spectral.top.values[0]), 4)
        (10.0, 4.0)
    """
    size = dimension(H)
    check_count("steps", steps, 2)
    k = min(5, steps, size) if k is None else k
    _check(size, steps, probes, draws, k, tol)
    H, generator = widened(H), seeded(generator)
    steps, details = min(steps, size), details_of(H)
    with uncast(H):
        # The first run serves the pairs, the density and the sums; further probes only
        # the density.
        krylov = _walk(H, steps, generator)
        pairs = [_pairs(krylov, end, k, tol, details) for end in (1, -1)]
        trace, frobenius, spent = _sums(H, krylov, draws, generator)
        spaces, overlaps = [krylov.projection()], []
        for _ in range(probes - 1):
            other = _walk(H, steps, generator)
            spaces.append(other.projection())
            overlaps.append(krylov.overlaps(other, steps))
    seen = quadrature(spaces, overlaps, size, trace)
    return Spectrum(
        **{f.name: getattr(seen, f.name) for f in dataclasses.fields(seen)},
        top=pairs[0],
        bottom=pairs[1],
        frobenius=frobenius,
        products=steps * probes + spent,
        details=details,
    )


def _walk(H: LinearOperator, steps: int, generator: torch.Generator) -> Krylov:
    krylov = Krylov(H, rademacher(H, 1, generator)[:, 0], generator)
    for _ in range(steps):
        krylov.step()
    return krylov


def _pairs(
    krylov: Krylov, end: int, k: int, tol: float, details: Mapping[str, Any]
) -> Eigenpairs:
    """The k largest pairs (end 1) or the k smallest ones (end -1)."""
    values, coefficients, residuals = krylov.ritz()
    places = torch.arange(len(values), device="cpu").flip(0)
    places = places[:k] if end > 0 else places[len(places) - k :]
    allowed = (tol * values[places].abs()).clamp(min=10 * krylov.epsilon)
    return Eigenpairs(
        values=values[places],
        vectors=krylov.vectors(coefficients[:, places]),
        residuals=residuals[places],
        converged=bool((residuals[places] <= allowed).all()),
        products=krylov.steps,
        details={**details, "which": "LA" if end > 0 else "SA", "tol": tol},
    )


def _sums(
    H: LinearOperator, krylov: Krylov, draws: int, generator: torch.Generator
) -> tuple[Estimate, Estimate, int]:
    """Trace, Frobenius norm, and the products they took beyond those of the run."""
    if krylov.exhausted:  # nothing is left to draw
        values = krylov.ritz()[0]
        norm = math.sqrt(float(values.square().sum()))
        return Estimate(value=float(values.sum())), Estimate(value=norm), 0
    source = Draws(H, generator, [slice(None)], krylov)
    exact = H.exact_trace() if isinstance(H, SupportsExactTrace) else None
    trace = exact or source.traces(draws, deflated=True).total()
    return trace, rooted(source.squares(draws).total()), draws


def _check(size: int, steps: int, probes: int, draws: int, k: int, tol: float) -> None:
    for name, value, low in (
        ("steps", steps, 2),
        ("probes", probes, 1),
        ("draws", draws, 2),
        ("k", k, 0),
    ):
        check_count(name, value, low)
    if k > min(steps, size):
        raise SettingError(
            f"k must be at most the number of steps, {min(steps, size)}, got {k}."
        )
    check_positive("tol", tol)
