"""Directions through parameter space, and their lengths.

Source: Li et al., 2018, arXiv:1712.09913, and the published code: one standard normal
draw per tensor, each filter scaled to the norm of the parameters' own. As there,
tensors of at most one dimension (biases, batch norm) stay put, or are their own
direction with ignore="none".

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

from steppe.errors import check_choice, check_integer
from steppe.noise import filter_scales

Norm = Literal["filter", "layer", "none"]
Ignore = Literal["biasbn", "none"]

TINY = 1e-10  # added to norms in the published code, so that a zero divides nothing


def random_direction(
    base: Sequence[Tensor], norm: Norm, ignore: Ignore, seed: int
) -> list[Tensor]:
    """A normal draw, scaled to the norms of the parameters.

    Args:
        base: P parameters, none of them is changed.
        norm: "filter" gives each output row the norm of the parameters' own row,
            "layer" each tensor the norm of its own, "none" keeps the normal draw.
        ignore: "biasbn" has zeros for tensors of at most one dimension; "none" the
            tensors themselves.
        seed: of the draw, whatever was drawn before.

    Returns:
        P tensors shaped like `base`, on their devices.

    Raises:
        SettingError: an unknown norm or ignore, or a seed that is no whole number.
    """
    check_integer("seed", seed)
    check_choice("norm", norm, get_args(Norm))
    check_choice("ignore", ignore, get_args(Ignore))
    generator = torch.Generator().manual_seed(seed)
    # Drawn on the CPU: a seed means the same line on every device.
    drawn = [
        torch.randn(p.shape, generator=generator).to(device=p.device, dtype=p.dtype)
        for p in base
    ]
    scaled = normalized(drawn, base, norm)
    flat = [torch.zeros_like(p) if ignore == "biasbn" else p.clone() for p in base]
    return [d if p.dim() > 1 else f for p, d, f in zip(base, scaled, flat, strict=True)]


def normalized(
    drawn: Sequence[Tensor], base: Sequence[Tensor], norm: Norm
) -> Sequence[Tensor]:
    """A direction with the norms of the parameters, filter by filter or by tensor.

    Args:
        drawn: P tensors.
        base: P parameters.
        norm: as in `random_direction`.
    """
    if norm == "none":
        return drawn
    if norm == "filter":
        pairs = zip(filter_scales(base), filter_scales(drawn), strict=True)
    else:
        pairs = zip([p.norm() for p in base], [d.norm() for d in drawn], strict=True)
    factors = [want / (have + TINY) for want, have in pairs]
    return [d * factor for d, factor in zip(drawn, factors, strict=True)]
