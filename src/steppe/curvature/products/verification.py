"""Products compared once with others: with differences, and in float64.

A backward pass that somebody wrote may be right, and what is differentiated of it
wrong: it need not say how it depends on what the function was given. The matrix then
lacks terms and is symmetric all the same. Where it is not symmetric, a wider type
tells a wrong derivative, which stays, from rounding, which goes.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from steppe.curvature.products.finite_differences import AbstractDifferences
from steppe.curvature.products.retained import AbstractBatchProduct
from steppe.errors import UsageError
from steppe.linalg.protocols import LinearOperator, uncast
from steppe.linalg.symmetry import drawn_asymmetry
from steppe.objective import Objective
from steppe.results import Cost
from steppe.torch_internals import tree_map

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
    drawn = torch.randn(size, generator=source, dtype=torch.float64, device="cpu")
    column = drawn.to(params[0].device, params[0].dtype)[None]
    # Two steps of different length: an error of differences depends on the step, and
    # one of the backward pass does not.
    near, far = (_along(differences, column, share) for share in (0.25, 1.0))
    length = float(near.norm())
    if not float((near - far).norm()) <= AGREE * length:
        return
    image = torch.zeros_like(column)
    part().add_products(column, image)
    if float((image - near).norm()) > DIFFER * length:
        raise UsageError(
            f"products with derivatives of {name} are wrong: they differ from "
            "differences of gradients; let its backward pass compute with tensors of "
            "ctx.saved_tensors and detach nothing, or use "
            "backend='finite_difference'."
        )


def _along(differences: AbstractDifferences, column: Tensor, share: float) -> Tensor:
    differences.share = share
    image = torch.zeros_like(column)
    differences.add_products(column, image)
    return image


def asymmetry_in_float64(
    objective: Objective, matrix: Callable[[Objective], LinearOperator]
) -> float:
    """Asymmetry, as a share of the matrix, of the first batch in float64.

    Rounding is smaller there by nine digits, also in a forward pass under an autocast
    of its own, which leaves float64 alone. NaN where the model cannot be copied, run in
    float64, or has no influence there.

    Args:
        objective: the mean loss.
        matrix: gives the matrix of another objective.
    """
    objective.cost += Cost(products=3 / len(objective.batches))
    try:
        H = matrix(_in_float64(objective))
        with uncast(H):
            return drawn_asymmetry(H)
    except Exception:  # somebody's model may refuse to be copied in any way
        return math.nan


def _in_float64(objective: Objective) -> Objective:
    """The same loss of a float64 copy of the model on a copy of the first batch."""
    model = copy.deepcopy(objective.model).double()
    loss = objective.loss
    if isinstance(loss, nn.Module):
        loss = copy.deepcopy(loss).double()
    batch = tree_map(_widened, objective.batches[0])
    wide = Objective(model, [batch], loss, mode=objective.mode, seed=objective.seed)
    if objective.dtype == torch.float64:
        # No wider type is left, but a fit that is not so close has no residuals
        # that cancel, and a derivative that is wrong stays so.
        with torch.no_grad():
            torch._foreach_mul_(list(wide.params), 0.5)
    return wide


def _widened(leaf: Any) -> Any:
    wide = isinstance(leaf, Tensor) and leaf.is_floating_point()
    return leaf.double() if wide else leaf
