"""The trace and the Frobenius norm of a symmetric operator, from random signs.

Source: Hutchinson, 1990, doi:10.1080/03610919008812866. Sampling stops on the standard
error; a running mean that has come to rest says nothing of its distance from the trace.
How many draws that takes is planned from a pilot (Stein, 1945,
doi:10.1214/aoms/1177731088): a look after each draw would stop at lucky moments.

Shape letters: D parameters in all, M random draws, L parts.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import torch

from steppe.errors import SettingError, check_count, check_positive
from steppe.linalg.deflation import STEPS, AbstractDraws, Draws, named_parts
from steppe.linalg.probes import seeded
from steppe.linalg.protocols import (
    LinearOperator,
    SupportsExactTrace,
    details_of,
    dimension,
    widened,
)
from steppe.linalg.sampling import Sample, draw, judged, rooted
from steppe.results import Cost, Estimate

Method = Literal["auto", "exact", "hutchinson", "deflated"]

WORTH = 4  # a space is built where it saves draws: beyond so many times its steps


def trace(
    H: LinearOperator,
    *,
    rtol: float = 0.01,
    method: Method = "auto",
    min_samples: int = 20,
    max_samples: int = 1000,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Sum of the diagonal, to a standard error of `rtol` times its magnitude.

    Exact where H knows its trace (that of a piecewise linear network). Otherwise the
    mean of z' H z over vectors z of independent random signs, whose variance is twice
    the sum of squared off-diagonal entries; where many draws are needed, a Krylov space
    of 30 products is taken out first, which halves them or better; for D <= 30 it is
    all there is.

    Args:
        H: symmetric operator of shape (D, D), or a dense tensor.
        rtol: asked standard error as a share of the magnitude of the estimate.
        method: "auto" as described above, or one of the three.
        min_samples: draws of the pilot from which their number is planned, at least 2.
        max_samples: draws at most; the products of a Krylov space are not among them.
        generator: of the draws; None for seed 0 on the CPU.

    Returns:
        Estimate; `converged` is False where `max_samples` ended it first. Where the
        parameters have names, `details["by_tensor"]` holds an Estimate for each.

    Raises:
        SettingError: a setting out of range, a product that is not finite, or no exact
            trace where one is asked for.

    Example:
        >>> trace(torch.diag(torch.tensor([3.0, 1.0, 2.0]))).value
        6.0
    """
    _check(rtol, method, min_samples, max_samples)
    dimension(H)
    if method in ("auto", "exact"):
        exact = H.exact_trace() if isinstance(H, SupportsExactTrace) else None
        if exact is not None:
            details = {**details_of(H), **exact.details}
            return dataclasses.replace(exact, details=details)
        if method == "exact":
            raise SettingError(
                "this operator knows no exact trace, as the Hessian of a piecewise "
                "linear network does; use method='auto'."
            )
    H, generator = widened(H), seeded(generator)
    names = named_parts(H)
    parts = list(names.values()) or [slice(None)]
    draws = Draws(H, generator, parts)
    deflated = None if method == "auto" else method == "deflated"
    sample, deflated = sampled_trace(
        draws, rtol, min_samples, max_samples, deflated=deflated
    )
    tensors = {name: sample.part(index) for index, name in enumerate(names)}
    return dataclasses.replace(
        judged(sample.total(), rtol),
        cost=Cost(products=draws.products),
        details={
            **details_of(H),
            "rtol": rtol,
            "method": "deflated" if deflated else "hutchinson",
            **({"by_tensor": tensors} if tensors else {}),
        },
    )


def frobenius(
    H: LinearOperator,
    *,
    rtol: float = 0.01,
    min_samples: int = 20,
    max_samples: int = 1000,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Square root of the sum of all squared entries, which is that of the eigenvalues.

    The mean of |H z|^2 over vectors z of independent random signs. A few large
    eigenvalues make it vary much, so a Krylov space of 30 products is taken out first.

    Args:
        H: symmetric operator of shape (D, D), or a dense tensor.
        rtol: asked standard error as a share of the estimate.
        min_samples: draws of the pilot from which their number is planned, at least 2.
        max_samples: draws at most; the products of the Krylov space are not among them.
        generator: of the draws; None for seed 0 on the CPU.

    Returns:
        Estimate; `converged` is False where `max_samples` ended it first.

    Raises:
        SettingError: a setting out of range, or a product that is not finite.

    Example:
        >>> round(frobenius(torch.diag(torch.tensor([3.0, 4.0]))).value, 5)
        5.0
    """
    _check(rtol, "auto", min_samples, max_samples)
    dimension(H)
    H, generator = widened(H), seeded(generator)
    draws = Draws(H, generator, [slice(None)])
    sample = sampled_square(draws, rtol, min_samples, max_samples)
    return dataclasses.replace(
        judged(rooted(sample.total()), rtol),
        cost=Cost(products=draws.products),
        details={**details_of(H), "rtol": rtol},
    )


def sampled_trace(
    draws: AbstractDraws,
    rtol: float,
    least: int,
    most: int,
    *,
    deflated: bool | None = None,
) -> tuple[Sample, bool]:
    """Draws of the trace, and whether they are corrected by a Krylov space.

    Args:
        draws: of the operator.
        rtol: asked standard error as a share of the magnitude of the trace.
        least: draws of the pilot.
        most: draws at most.
        deflated: correct them; None for where that saves products.
    """
    if deflated is None:
        # The pilot says whether a Krylov space pays: where few draws are enough, its
        # products would cost more than they save.
        wanted = draws.traces(least, deflated=False).wanted(rtol)
        deflated = wanted > WORTH * STEPS
    correct = deflated
    sample = draw(lambda n: draws.traces(n, deflated=correct), rtol, least, most)
    return sample, deflated


def sampled_square(draws: AbstractDraws, rtol: float, least: int, most: int) -> Sample:
    """Draws of the sum of squares, for a relative standard error of its root."""
    # A square has twice the relative error of its root.
    return draw(draws.squares, 2 * rtol, least, most)


def _check(rtol: float, method: str, min_samples: int, max_samples: int) -> None:
    check_positive("rtol", rtol)
    if method not in get_args(Method):
        known = ", ".join(get_args(Method))
        raise SettingError(f"method must be one of {known}, got {method!r}.")
    check_count("min_samples", min_samples, 2)
    check_count("max_samples", max_samples, 1)
    if max_samples < min_samples:
        raise SettingError(
            f"max_samples must be >= min_samples = {min_samples}, got {max_samples}."
        )
