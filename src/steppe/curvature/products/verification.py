"""Products with custom backward passes, compared with differences once.

A backward pass that somebody wrote may be right, and what is differentiated of it
wrong: it need not say how it depends on what the function was given. The matrix then
lacks terms and is symmetric all the same.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from steppe.curvature.products.finite_differences import AbstractDifferences
from steppe.curvature.products.retained import AbstractBatchProduct
from steppe.errors import UsageError

AGREE = 1e-3  # two differences that agree so well have met no kink
DIFFER = 1e-2  # products that differ by more from them are wrong


def check_products(
    part: Callable[[], AbstractBatchProduct],
    differences: AbstractDifferences,
    name: str,
) -> None:
    """Compare a product along a random direction with central differences.

    Where differences of two steps disagree, as across the kinks of a network or near
    the rounding error, they say nothing, and nothing is refused.

    Args:
        part: gives the curvature of one batch; it is made last, as differences spoil
            graphs.
        differences: the same by differences.
        name: of the custom function.

    Raises:
        UsageError: they differ.
    """
    params = differences.params
    source = torch.Generator().manual_seed(0)
    size = sum(p.numel() for p in params)
    drawn = torch.randn(size, generator=source, dtype=torch.float64)
    column = drawn.to(params[0].device, params[0].dtype)[None]
    near, far = (_along(differences, column, share) for share in (0.25, 1.0))
    length = float(near.norm())
    if not float((near - far).norm()) <= AGREE * length:
        return
    found = torch.zeros_like(column)
    part().add_products(column, found)
    if float((found - near).norm()) > DIFFER * length:
        raise UsageError(
            f"products with derivatives of {name} are wrong: they differ from "
            "differences of gradients; let its backward pass compute with tensors of "
            "ctx.saved_tensors and detach nothing, or use "
            "backend='finite_difference'."
        )


def _along(differences: AbstractDifferences, column: Tensor, share: float) -> Tensor:
    differences.share = share
    found = torch.zeros_like(column)
    differences.add_products(column, found)
    return found
