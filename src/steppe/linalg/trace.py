"""The trace of a symmetric operator from products with random signs.

Source: Hutchinson, 1990, doi:10.1080/03610919008812866. It stops on the standard error;
a running mean that has come to rest says nothing of its distance from the trace.

Shape letters: D parameters in all, M random draws.
"""

from __future__ import annotations

import torch

from steppe.errors import SettingError
from steppe.linalg.operator import (
    LinearOperator,
    dimension,
    product,
    rademacher,
    seeded,
    uncast,
    widened,
)
from steppe.results import Cost, Estimate

BLOCK = 10  # draws per product with the operator
BLOCK_ENTRIES = 2**26  # entries of such a block at most


def trace(
    H: LinearOperator,
    *,
    rtol: float = 0.01,
    min_samples: int = 20,
    max_samples: int = 1000,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Sum of the diagonal, to a standard error of `rtol` times its magnitude.

    The mean of z' H z over vectors z of independent random signs. Its variance is twice
    the sum of squared off-diagonal entries: a diagonal operator needs one draw.

    Args:
        H: symmetric operator of shape (D, D), or a dense tensor.
        rtol: asked standard error as a share of the magnitude of the estimate.
        min_samples: draws before the first look at the standard error, at least 2; a
            spread judged from few draws is often judged too small. With 20,
            1.96 standard errors hold the trace in 88 to 94 of 100 runs (400 seeds,
            three spectra, rtol 0.05 to 0.2), not in 95: it stops at lucky moments.
        max_samples: draws at most.
        generator: of the draws; None for seed 0 on the CPU.

    Returns:
        Estimate; `converged` is False where `max_samples` ended it first.

    Raises:
        SettingError: a setting out of range, or a product that is not finite.

    Example:
        >>> trace(torch.diag(torch.tensor([3.0, 1.0, 2.0]))).value
        6.0
    """
    _check(rtol, min_samples, max_samples)
    H, generator = widened(H), seeded(generator)
    block = max(1, min(BLOCK, BLOCK_ENTRIES // dimension(H)))
    draws: list[float] = []
    while True:
        target = max(min_samples, len(draws) + block)
        columns = min(block, target - len(draws), max_samples - len(draws))
        signs = rademacher(H, columns, generator)
        with uncast(H):
            image = product(H, signs)
        # Signs change no digit: all rounding is that of the product.
        draws += (signs * image).sum(0, dtype=torch.float64).tolist()
        mean, stderr = _mean(draws)
        converged = len(draws) >= min_samples and stderr <= rtol * abs(mean)
        if converged or len(draws) >= max_samples:
            break
    return Estimate(
        value=mean,
        stderr=stderr,
        samples=len(draws),
        converged=converged,
        cost=Cost(products=len(draws)),
        details={"rtol": rtol},
    )


def _mean(draws: list[float]) -> tuple[float, float]:
    values = torch.tensor(draws, dtype=torch.float64)
    if len(draws) < 2:
        return draws[0], torch.inf
    return float(values.mean()), float(values.std()) / len(draws) ** 0.5


def _check(rtol: float, min_samples: int, max_samples: int) -> None:
    if not rtol > 0:
        raise SettingError(f"rtol must be > 0, got {rtol}.")
    if min_samples < 2:
        raise SettingError(f"min_samples must be >= 2, got {min_samples}.")
    if max_samples < min_samples:
        raise SettingError(
            f"max_samples must be >= min_samples = {min_samples}, got {max_samples}."
        )
