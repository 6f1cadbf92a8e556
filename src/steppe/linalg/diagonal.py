"""The diagonal of a symmetric operator.

Source: Bekas et al., 2007, doi:10.1016/j.apnum.2007.01.003, with random signs: the mean
of z * (H z), whose error in an entry is the length of the rest of its row.

Shape letters: D parameters in all, M random draws.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from steppe.errors import SettingError, check_count, check_positive
from steppe.linalg.probes import rademacher, seeded
from steppe.linalg.protocols import (
    LinearOperator,
    SupportsExactDiagonal,
    agreed,
    details_of,
    dimension,
    product,
    uncast,
    widened,
)
from steppe.linalg.symmetry import check_drawn
from steppe.results import Cost, Diagonal


def diagonal(
    H: LinearOperator,
    *,
    rtol: float = 0.1,
    min_samples: int = 20,
    max_samples: int = 1000,
    generator: torch.Generator | None = None,
) -> Diagonal:
    """Diagonal entries, to joint standard errors of `rtol` times their joint length.

    Exact where H knows its diagonal (that of a piecewise linear network). Otherwise
    single entries have large errors long before the diagonal as a whole has.

    Args:
        H: symmetric operator of shape (D, D), or a dense tensor.
        rtol: asked length of the vector of standard errors, as a share of that of the
            diagonal.
        min_samples: draws before the first look at the errors, at least 2.
        max_samples: draws at most, one product each.
        generator: of the draws; None for seed 0 on the CPU.

    Returns:
        Diagonal; `converged` is False where `max_samples` ended it first.

    Raises:
        SettingError: a setting out of range, or a product that is not finite.

    Example:
        >>> diagonal(torch.diag(torch.tensor([3.0, 1.0]))).values.tolist()
        [3.0, 1.0]
    """
    dimension(H)
    check_positive("rtol", rtol)
    check_count("min_samples", min_samples, 1)
    check_count("max_samples", max_samples, 1)
    if not 2 <= min_samples <= max_samples:
        raise SettingError(
            "min_samples must be >= 2 and at most max_samples, got "
            f"{min_samples} and {max_samples}."
        )
    exact = H.exact_diagonal() if isinstance(H, SupportsExactDiagonal) else None
    if exact is not None:
        details = {**details_of(H), **exact.details}
        return dataclasses.replace(exact, details=details)
    H, generator = widened(H), seeded(generator)
    shape = (dimension(H),)
    mean = torch.zeros(shape, dtype=torch.float64, device=H.device)
    spread = torch.zeros_like(mean)  # sum of squares about the mean
    before: tuple[Tensor, Tensor] | None = None
    for count in range(1, max_samples + 1):
        signs, image = _draw(H, generator)
        if count == 2 and before is not None:
            check_drawn(H, *before, signs, image)
        before = (signs, image) if count == 1 else None
        sample = (signs * image).double()
        # Welford's update: the sum of squares of raw samples would cancel.
        change = sample - mean
        mean += change / count
        spread += change * (sample - mean)
        if count < min_samples:
            continue
        stderr = (spread / (count - 1) / count).sqrt()
        # All processes that work on H have to stop at the same draw.
        error, length = agreed(H, torch.stack([stderr.norm(), mean.norm()])).tolist()
        met = error <= rtol * length
        if met:
            break
    return Diagonal(
        values=mean.to(H.dtype),
        stderr=stderr.to(H.dtype),
        samples=count,
        converged=met,
        cost=Cost(products=count),
        details={**details_of(H), "rtol": rtol},
    )


def _draw(H: LinearOperator, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Random signs z, and H z."""
    signs = rademacher(H, 1, generator)[:, 0]
    with uncast(H):
        image = product(H, signs)
    return signs, image
