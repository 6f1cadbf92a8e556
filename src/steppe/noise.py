"""Random displacements of the parameters, shared by measures and optimizers.

Source of the filter scale: Bisla et al., 2022, arXiv:2201.08025 (LPF-SGD), with the
standard deviation `scale * norm` of the published code; filters are those of Li et al.,
2018, arXiv:1712.09913. Source of the scales of uniform noise: Wen et al., 2018,
arXiv:1805.07898 (SmoothOut).

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.parameters import local_parts, settled

UniformScale = Literal["none", "abs", "tensor", "filter"]


@torch.no_grad()
def filter_scales(params: Sequence[Tensor]) -> list[Tensor]:
    """L2 norm of each filter: one output row of a matrix or kernel, a whole vector.

    Args:
        params: P tensors in any memory layout.

    Returns:
        P tensors that broadcast against `params`: (rows, 1, ...) for more than one
        dimension, () for vectors and scalars.
    """
    norm = torch.linalg.vector_norm
    norms = [
        norm(p, dim=tuple(range(1, p.dim())), keepdim=True) if p.dim() > 1 else norm(p)
        for p in params
    ]
    return [settled(n) for n in norms]


def filter_noise(
    params: Sequence[Tensor],
    scale: float | Sequence[float],
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Gaussian noise whose standard deviation is `scale` times the filter's norm.

    Args:
        params: P tensors.
        scale: standard deviation as a share of the norm of the filter; one for all or
            one per tensor.
        generator: where the draws come from; None for torch's global one.

    Returns:
        P tensors shaped like `params`, on their devices.
    """
    stds = filter_scales(params)
    if stds:
        torch._foreach_mul_(stds, _per_tensor(scale, len(stds)))
    return gaussian_noise(params, stds, generator)


def gaussian_noise(
    params: Sequence[Tensor],
    std: float | Sequence[float | Tensor],
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Gaussian noise of one standard deviation, in the units of the parameters.

    Args:
        params: P tensors.
        std: standard deviation of every entry; one for all or one per tensor, a number
            or a tensor that broadcasts against it.
        generator: where the draws come from; None for torch's global one.

    Returns:
        P tensors shaped like `params`, on their devices.
    """
    if not params:
        return []
    noise = _drawn(params, generator, lambda t: t.normal_(generator=generator))
    torch._foreach_mul_(noise, _per_tensor(std, len(params)))
    return noise


@torch.no_grad()
def uniform_noise(
    params: Sequence[Tensor],
    a: float | Sequence[float],
    scale: UniformScale,
    generator: torch.Generator | None,
) -> list[Tensor]:
    """Uniform noise: U, independent and uniform in [-1, 1], times a scale.

    The scale is a for "none" and a |w| for "abs". "tensor" and "filter" give the noise
    of each tensor or filter the length a times that of its weights, in a random
    direction: a ||w|| U / ||U||.

    Args:
        params: P tensors, w.
        a: half the width for "none", in the units of the parameters, and a share of
            the weights otherwise; one for all or one per tensor.
        scale: which.
        generator: where the draws come from; None for torch's global one.

    Returns:
        P tensors shaped like `params`, on their devices.
    """
    if not params:
        return []
    noise = _drawn(params, generator, lambda t: t.uniform_(-1, 1, generator=generator))
    if scale == "abs":
        torch._foreach_mul_(noise, torch._foreach_abs(list(params)))
    elif scale != "none":
        lengths = filter_scales if scale == "filter" else _norms
        wanted, drawn = lengths(params), lengths(noise)
        # A draw of zeros alone stays zero.
        torch._foreach_clamp_min_(drawn, [torch.finfo(n.dtype).tiny for n in drawn])
        torch._foreach_div_(wanted, drawn)
        torch._foreach_mul_(noise, wanted)
    torch._foreach_mul_(noise, _per_tensor(a, len(params)))
    return noise


def _norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [settled(torch.linalg.vector_norm(t)) for t in tensors]


def _drawn(
    params: Sequence[Tensor],
    generator: torch.Generator | None,
    fill_: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """New tensors shaped and sharded like parameters, filled in their order.

    A generator of another device draws there: a CPU seed gives a GPU the same noise.
    """
    drawn = []
    for p in params:
        # Filled in one order of entries, whatever the memory format of the parameter:
        # channels_last is to have the same noise.
        noise = torch.empty_like(p, memory_format=torch.contiguous_format)
        noise.requires_grad_(False)
        (part,) = local_parts([noise])
        if generator is None or generator.device == part.device:
            fill_(part)
        else:
            part.copy_(fill_(torch.empty_like(part, device=generator.device)))
        drawn.append(noise)
    return drawn


def _per_tensor(scale: float | Sequence[float | Tensor], count: int) -> list[Any]:
    scales = list(scale) if isinstance(scale, Sequence) else [scale] * count
    if len(scales) != count:
        raise SettingError(
            f"{len(scales)} scales given for {count} parameters; pass one per "
            "parameter, in their order."
        )
    return scales
