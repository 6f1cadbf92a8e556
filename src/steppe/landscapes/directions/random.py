"""Random directions through parameter space.

Source: Li et al., 2018, arXiv:1712.09913, and the published code: one standard normal
draw per tensor, then a norm. Directions of "states" move buffers as well, such as the
running statistics of batch norm.

Differences: draws follow from a seed alone and come in the order of names, not from
torch's global generator in the order of layers, which the constructor of the network
has drawn from. Of the states, those that are no floating-point numbers (counts, flags)
or not finite (masks) stay, and so do parameters that are frozen.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

import torch
from torch import Tensor

from steppe.errors import check_choice, check_integer
from steppe.landscapes.directions.ignoring import Ignore, Ignored, ignored_by
from steppe.landscapes.directions.norms import Norm, normalized


@dataclass(frozen=True)
class Direction:
    """A direction of parameters, and of the buffers that move with them."""

    tensors: tuple[Tensor, ...]  # P, shaped like the parameters
    buffers: Mapping[str, Tensor] = field(default_factory=dict)  # by name


@torch.no_grad()
def random_direction(
    params: Mapping[str, Tensor],
    norm: Norm,
    ignore: Ignore,
    seed: int,
    buffers: Mapping[str, Tensor] | None = None,
) -> Direction:
    """A normal draw, with the lengths of a norm.

    Tensors of at most one dimension have no random direction: see `ignored_by`.

    Args:
        params: P parameters by name, none of them is changed. Those of a
            parametrization are what it is made of: with weight norm, the lengths and
            the directions of its filters, each with a draw of its own.
        norm: see `directions.norms`.
        ignore: tensors that stay, see `ignored_by`.
        seed: of the draw, whatever was drawn before.
        buffers: that move too, by name. The parameters' draw is the same with them.

    Raises:
        SettingError: an unknown norm or ignore, or a seed that is no whole number.
    """
    check_integer("seed", seed)
    check_choice("norm", norm, get_args(Norm))
    buffers = buffers or {}
    ignored = ignored_by(ignore, [*params, *buffers])
    generator = torch.Generator().manual_seed(seed)
    moved = _draw(params, norm, ignored, generator)
    states = _draw(buffers, norm, ignored, generator)
    return Direction(tuple(moved[name] for name in params), states)


def _draw(
    tensors: Mapping[str, Tensor],
    norm: Norm,
    ignored: Ignored,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    direction = {}
    for name in sorted(tensors):
        base = tensors[name].detach()
        # Drawn on the CPU in float32, also where it is not needed: a seed means the
        # same line on every device, whatever the precision and the rule.
        drawn = torch.randn(
            base.shape, generator=generator, dtype=torch.float32, device="cpu"
        )
        if ignored.leaves(name, base):
            direction[name] = torch.zeros_like(base)
        elif base.dim() <= 1:
            direction[name] = base.clone()
        else:
            direction[name] = normalized([drawn.to(base.device)], [base], norm)[0]
    return direction


def has_filters(params: Iterable[Tensor]) -> bool:
    """Whether a random direction in units of the filters' norms moves any of them."""
    return any(p.dim() > 1 and bool(p.any()) for p in params)


def moving_buffers(
    buffers: Mapping[str, Tensor], persistent: Sequence[str]
) -> dict[str, Tensor]:
    """Buffers that a direction of states moves: floating-point, finite and saved.

    Args:
        buffers: of a model, by name.
        persistent: names in its state_dict.
    """
    saved = set(persistent)
    return {
        name: b
        for name, b in buffers.items()
        if name in saved and b.is_floating_point() and bool(b.isfinite().all())
    }
