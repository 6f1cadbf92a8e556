"""A ball of the spectral norm for every matrix, shaped like Muon's step.

Source: the polynomial iteration is that of Jordan et al., 2024, "Muon: an optimizer for
hidden layers in neural networks", followed by the cubic Newton-Schulz iteration, which
converges (Bjorck and Bowie, 1971).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.geometry.abstract import GEOMETRIES, Geometry, each_scaled_
from steppe.geometry.shapes import Scale, check_scale, fans, radii
from steppe.registry.bounds import Ranges, at_least, check_bounds
from steppe.stepping.context import StepContext

QUINTIC = (3.4445, -4.7750, 2.0315)  # lifts small singular values fastest


@GEOMETRIES.add("spectral", source="Jordan et al., 2024 (Muon)")
@dataclass(frozen=True)
class Spectral(Geometry):
    """A spectral ball per matrix: rho U V^T, where g = U S V^T.

    It maximises <g_l, delta_l> under a largest singular value of rho_l for every
    matrix; a kernel (out, in, height, width) counts as a matrix (out, in * height *
    width). Vectors have an L2 ball: rho_l g_l / ||g_l||.

    Args:
        scale: "alike" for rho_l = rho, "fan" for rho_l = rho sqrt(fan out / fan in), so
            that a perturbation is felt alike at every width.
        iterations: of Muon's quintic polynomial, >= 0; five take singular values that
            are at least a thousandth of the L2 norm into [0.47, 1.21] times rho_l.
        polish: cubic Newton-Schulz iterations after them, >= 0; three take those into
            [0.96, 1] times rho_l, and each further one squares the error.
    """

    scale: Scale = "alike"
    iterations: int = 5
    polish: int = 3
    tells_length: ClassVar = True
    bounds: ClassVar[Ranges] = {"iterations": at_least(0), "polish": at_least(0)}

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_bounds(vars(self), self.bounds)

    def ascent_(
        self,
        step: StepContext,
        params: list[Tensor],
        grads: list[Tensor],
        rho: Sequence[float],
    ) -> tuple[list[Tensor], Tensor]:
        # To length 1, so that all singular values are at most 1, where both
        # polynomials are bounded.
        norm = each_scaled_(grads, [1.0] * len(grads))
        for grad in grads:
            if grad.dim() > 1 and grad.numel():
                matrix = grad.reshape(fans(grad))
                factor = polar_factor(matrix, self.iterations, self.polish)
                grad.copy_(factor.view(grad.shape))
        if grads:
            torch._foreach_mul_(grads, radii(params, list(rho), self.scale))
        return grads, norm


def polar_factor(matrix: Tensor, iterations: int, polish: int) -> Tensor:
    """U V^T of a matrix U S V^T, by products of matrices alone.

    Args:
        matrix: shape (rows, columns), with singular values of at most 1.
        iterations: of the quintic polynomial.
        polish: of the cubic one, which converges to singular values of 1.

    Returns:
        Same shape; singular values that are zero stay zero.
    """
    # The products x x' have the size of the shorter side.
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    x = x if wide else x.mT
    a, b, c = QUINTIC
    # The quintic raises small singular values fast, but does not converge to 1; the
    # cubic converges, and quadratically once they are near.
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    for _ in range(polish):
        x = 1.5 * x - 0.5 * (x @ x.mT) @ x
    return (x if wide else x.mT).to(matrix.dtype)
