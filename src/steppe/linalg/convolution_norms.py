"""Largest singular value of a convolution, as a linear map between its signals.

Shape letters: O outputs, I inputs of a group.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from steppe.graphs.graph_attributes import ConvolutionSettings
from steppe.linalg.lanczos import eigsh
from steppe.linalg.operators import operator

TOL = 1e-6  # residual as a share of the squared norm, whose error is its square
PRODUCTS = 1000  # at most


class SpectralNorm(NamedTuple):
    """A largest singular value; exact unless it did not converge."""

    value: float
    converged: bool = True


def operator_norm(
    kernel: Tensor,
    settings: ConvolutionSettings,
    size: tuple[int, ...],
    generator: torch.Generator,
) -> SpectralNorm:
    """Norm of the convolution with its stride, dilation, groups and padding by zeros.

    By Lanczos on the product of the map and its transpose, which is never formed.

    Args:
        kernel: as torch has it.
        settings: of the convolution.
        size: shape of one input, channels first.
        generator: of the start vector.
    """
    padding = settings.output_padding or (0,) * len(settings.stride)

    def squared(signal: Tensor) -> Tensor:
        with torch.enable_grad():
            x = signal.view(1, *size).requires_grad_()
            y = torch.convolution(
                x,
                kernel,
                None,
                settings.stride,
                settings.padding,
                settings.dilation,
                settings.transposed,
                padding,
                settings.groups,
            )
            (back,) = torch.autograd.grad(y, x, y.detach())
        return back.flatten()

    product = operator(
        squared, math.prod(size), dtype=kernel.dtype, device=kernel.device
    )
    pairs = eigsh(product, tol=TOL, max_products=PRODUCTS, generator=generator)
    return SpectralNorm(math.sqrt(max(float(pairs.values[0]), 0.0)), pairs.converged)


def circular_norm(
    kernel: Tensor, settings: ConvolutionSettings, size: tuple[int, ...]
) -> SpectralNorm:
    """Norm of the convolution with a stride of 1 that goes on around the edges.

    Each frequency has a matrix of its own, so that the norm is the largest of theirs.
    Source: Sedghi, Gupta and Long, 2019, arXiv:1805.10408, Theorem 6.

    Args:
        kernel: as torch has it.
        settings: of which the groups count.
        size: shape of one input, channels first.
    """
    grid = [
        max(n, k) for n, k in zip(size[1:], kernel.shape[2:], strict=True)
    ]  # a signal is no smaller than the kernel
    over = tuple(range(2, kernel.dim()))
    waves = torch.fft.rfftn(kernel, s=grid, dim=over).flatten(2)
    blocks = waves.reshape(settings.groups, -1, *waves.shape[1:])
    values = torch.linalg.svdvals(blocks.movedim(-1, 1))
    return SpectralNorm(float(values.max()))
