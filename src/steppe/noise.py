"""Random displacements of the parameters, shared by measures and optimizers.

Source of the filter scale: Bisla et al., 2022, arXiv:2201.08025 (LPF-SGD), with the
standard deviation `scale * norm` of the published code; filters are those of Li et al.,
2018, arXiv:1712.09913. Source of the scales of uniform noise: Wen et al., 2018,
arXiv:1805.07898 (SmoothOut).

On a CPU noise is drawn in blocks that stay in its caches until they are scaled and
added: most of the time of a draw would otherwise go into moving it through memory.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.parameters import forget_derived, local_parts, settled, sum_

UniformScale = Literal["none", "abs", "tensor", "filter"]

BLOCK = 2**17  # numbers of one block
SPAN = 16  # numbers that torch draws at once: blocks of multiples have the same ones


@dataclass(frozen=True)
class Piece:
    """Some rows of one of P tensors."""

    owner: int  # number of the tensor
    rows: slice | None  # None for all of it

    def of(self, tensor: Tensor) -> Tensor:
        """The rows, as a view."""
        return tensor if self.rows is None else tensor[self.rows]

    def scale(self, scale: float | Tensor, like: Tensor) -> float | Tensor:
        """The part of a scale that belongs to rows of a tensor it broadcasts against.

        Args:
            scale: of the tensor.
            like: the tensor.
        """
        if self.rows is None or not isinstance(scale, Tensor):
            return scale
        by_row = scale.dim() == like.dim() and len(scale) == len(like)
        return self.of(scale) if by_row else scale


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


@dataclass(frozen=True, kw_only=True)
class Noise(ABC):
    """Independent draws of a random displacement of P parameter tensors.

    Args:
        params: P tensors, unmoved.
        generator: where the draws come from; None for torch's global one.
    """

    params: Sequence[Tensor]
    generator: torch.Generator | None = None

    @abstractmethod
    def fill_(self, part: Tensor) -> Tensor:
        """Fill a tensor with independent numbers of the standard distribution."""

    @abstractmethod
    def scale_(
        self, drawn: list[Tensor], block: list[Piece], centres: Sequence[Tensor]
    ) -> None:
        """Scale standard draws, one tensor per piece of the P unmoved parameters."""

    @abstractmethod
    def divisible(self, param: Tensor) -> bool:
        """Whether rows of a parameter may be scaled without the others."""

    @torch.no_grad()
    def draw(self) -> list[Tensor]:
        """Draw once: P tensors shaped like the parameters, on their devices."""
        noise = [_empty_like(p) for p in self.params]
        for block in self._blocks:
            into = [piece.of(noise[piece.owner]) for piece in block]
            self._draw_(into, block, self.params)
        return noise

    @torch.no_grad()
    def put_(self, params: Sequence[Tensor], centres: Sequence[Tensor]) -> None:
        """Draw once and set parameters to the sum of centres and noise.

        Args:
            params: P tensors like the parameters, or these.
            centres: P tensors with the values of the unmoved parameters.
        """
        for block in self._blocks:
            around = [piece.of(centres[piece.owner]) for piece in block]
            drawn = [_empty_like(each) for each in around]
            self._draw_(drawn, block, centres)
            targets = [piece.of(params[piece.owner]) for piece in block]
            sum_(targets, around, drawn)
        forget_derived()

    def _draw_(
        self, into: list[Tensor], block: list[Piece], centres: Sequence[Tensor]
    ) -> None:
        """Fill tensors in their order.

        A generator of another device draws there, so that a CPU seed gives a GPU the
        same noise.
        """
        for part in local_parts(into):
            if self.generator is None or self.generator.device == part.device:
                self.fill_(part)
            else:
                there = torch.empty_like(part, device=self.generator.device)
                part.copy_(self.fill_(there))
        self.scale_(into, block, centres)

    @cached_property
    def _blocks(self) -> list[list[Piece]]:
        """Pieces of the parameters, in order, with about `BLOCK` numbers at a time.

        What is not on a CPU, or is sharded, is not cut and joins the present block:
        there a call costs more than the way through memory.
        """
        blocks: list[list[Piece]] = []
        size = 0
        for owner, p in enumerate(self.params):
            local = p.device.type == "cpu" and not hasattr(p, "to_local")
            cuts = _cuts(p) if local and self.divisible(p) else [None]
            for rows in cuts:
                piece = Piece(owner, rows)
                count = piece.of(p).numel() if local else 0
                if not blocks or (size and size + count > BLOCK):
                    blocks.append([])
                    size = 0
                blocks[-1].append(piece)
                size += count
        return blocks


@dataclass(frozen=True, kw_only=True)
class ScaledNoise(Noise):
    """Independent numbers times a scale of each tensor, filter or entry.

    Args:
        params: P tensors, unmoved.
        generator: where the draws come from; None for torch's global one.
        scales: P numbers, or tensors that broadcast against the parameters.
    """

    scales: list[float | Tensor]

    def divisible(self, param: Tensor) -> bool:
        """Always: every entry has a scale of its own."""
        return True

    def scale_(
        self, drawn: list[Tensor], block: list[Piece], centres: Sequence[Tensor]
    ) -> None:
        """Multiply by the scales."""
        _multiply_(drawn, self.scales, block, self.params)


class GaussianNoise(ScaledNoise):
    """Gaussian noise, whose standard deviations are the scales."""

    def fill_(self, part: Tensor) -> Tensor:
        """Standard normal numbers."""
        return part.normal_(generator=self.generator)


class BoxNoise(ScaledNoise):
    """Uniform noise in a box, half of whose widths are the scales."""

    def fill_(self, part: Tensor) -> Tensor:
        """Uniform numbers in [-1, 1]."""
        return part.uniform_(-1, 1, generator=self.generator)


@dataclass(frozen=True, kw_only=True)
class UniformNoise(Noise):
    """Uniform noise in units of the parameters, or of the lengths of some of them.

    Args:
        params: P tensors, unmoved.
        generator: where the draws come from; None for torch's global one.
        a: P numbers.
        scale: see `uniform_noise`.
        lengths: of the P parameters or their filters; for "tensor" and "filter".
    """

    a: list[float]
    scale: UniformScale
    lengths: list[Tensor]

    def fill_(self, part: Tensor) -> Tensor:
        """Uniform numbers in [-1, 1]."""
        return part.uniform_(-1, 1, generator=self.generator)

    def divisible(self, param: Tensor) -> bool:
        """Not where the length of the whole draw is needed."""
        return self.scale in ("none", "abs") or (
            self.scale == "filter" and param.dim() > 1
        )

    def scale_(
        self, drawn: list[Tensor], block: list[Piece], centres: Sequence[Tensor]
    ) -> None:
        """Multiply by the weights or give draws their lengths, then multiply by a."""
        if self.scale == "abs":
            weights = [piece.of(centres[piece.owner]) for piece in block]
            torch._foreach_mul_(drawn, torch._foreach_abs(weights))
        elif self.scale != "none":
            of_draws = filter_scales(drawn) if self.scale == "filter" else _norms(drawn)
            # A draw of zeros alone stays zero.
            torch._foreach_clamp_min_(
                of_draws, [torch.finfo(n.dtype).tiny for n in of_draws]
            )
            wanted = _chosen(self.lengths, block, self.params)
            torch._foreach_mul_(drawn, list(torch._foreach_div(wanted, of_draws)))
        _multiply_(drawn, self.a, block, self.params)


def filter_noise(
    params: Sequence[Tensor],
    scale: float | Sequence[float],
    generator: torch.Generator | None,
) -> GaussianNoise:
    """Gaussian noise whose standard deviation is `scale` times the filter's norm.

    Args:
        params: P tensors.
        scale: standard deviation as a share of the norm of the filter; one for all or
            one per tensor.
        generator: where the draws come from; None for torch's global one.
    """
    scales = _per_tensor(scale, len(params))
    stds = filter_scales(params)
    if stds:
        torch._foreach_mul_(stds, scales)
    return GaussianNoise(params=params, generator=generator, scales=[*stds])


def gaussian_noise(
    params: Sequence[Tensor],
    std: float | Sequence[float],
    generator: torch.Generator | None,
) -> GaussianNoise:
    """Gaussian noise of one standard deviation, in the units of the parameters.

    Args:
        params: P tensors.
        std: standard deviation of every entry; one for all or one per tensor.
        generator: where the draws come from; None for torch's global one.
    """
    stds = _per_tensor(std, len(params))
    return GaussianNoise(params=params, generator=generator, scales=stds)


@torch.no_grad()
def uniform_noise(
    params: Sequence[Tensor],
    a: float | Sequence[float],
    scale: UniformScale,
    generator: torch.Generator | None,
) -> UniformNoise:
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
    """
    lengths = {"tensor": _norms, "filter": filter_scales}
    known = lengths[scale](params) if scale in lengths else []
    sizes = _per_tensor(a, len(params))
    return UniformNoise(
        params=params, generator=generator, a=sizes, scale=scale, lengths=known
    )


def _norms(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [settled(torch.linalg.vector_norm(t)) for t in tensors]


def _empty_like(tensor: Tensor) -> Tensor:
    """Memory for noise, in one order of entries whatever that of the parameter.

    A parameter in channels_last is to have the same noise as any other.
    """
    empty = torch.empty_like(tensor, memory_format=torch.contiguous_format)
    return empty.requires_grad_(False)


def _cuts(tensor: Tensor) -> list[slice | None]:
    """Rows of a tensor in pieces of about `BLOCK` numbers; None for all of them.

    Pieces begin at multiples of `SPAN` numbers and none is shorter, so that the draws
    are those of the whole tensor.
    """
    if tensor.numel() <= BLOCK:
        return [None]
    width = tensor.numel() // len(tensor)
    unit = SPAN // math.gcd(width, SPAN)  # rows with a multiple of SPAN numbers
    rows = unit * max(1, BLOCK // (unit * width))
    starts = range(0, max(1, len(tensor) // rows) * rows, rows)
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], None], strict=True)]


def _chosen(
    scales: Sequence[Any], block: list[Piece], params: Sequence[Tensor]
) -> list[Any]:
    return [piece.scale(scales[piece.owner], params[piece.owner]) for piece in block]


def _multiply_(
    drawn: list[Tensor],
    scales: Sequence[Any],
    block: list[Piece],
    params: Sequence[Tensor],
) -> None:
    torch._foreach_mul_(drawn, _chosen(scales, block, params))


def _per_tensor(scale: float | Sequence[float | Tensor], count: int) -> list[Any]:
    scales = list(scale) if isinstance(scale, Sequence) else [scale] * count
    if len(scales) != count:
        raise SettingError(
            f"{len(scales)} scales given for {count} parameters; pass one per "
            "parameter, in their order."
        )
    return scales
