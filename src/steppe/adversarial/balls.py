"""Balls of displacements: directions of ascent, projections and random points.

All is done in units of the scale: a displacement is delta = c u with ||u||_p <= radius,
and the gradient by u is c times that by delta. So the direction of the l2 ball is
c^2 g / ||c g|| in delta, and the projection is along the ray in u.

Shape letters: P tensors, B rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from steppe.errors import SettingError, check_choice
from steppe.noise import gaussian_noise, uniform_noise
from steppe.registry.bounds import POSITIVE, check_bounds
from steppe.vectors import joint_norm

Norm = Literal["2", "inf"]
Share = Literal["all", "tensor", "row"]


@dataclass(frozen=True, kw_only=True)
class Ball:
    """Displacements of P tensors whose norm, in units of a scale, has a bound.

    Args:
        like: P tensors with the shapes, dtypes and devices of the displacements.
        radius: bound of the norm.
        norm: "2", or "inf" for the largest entry.
        share: entries that share a norm: "all" of them, those of a "tensor", or those
            of a "row" of all tensors, such as a sample.
        scale: P tensors c >= 0 that broadcast against the displacements; None for 1.
            Where c is 0 nothing moves.
        low: P tensors, the least displacements, <= 0; None for none.
        high: P tensors, the largest displacements, >= 0; None for none.

    Raises:
        SettingError: a radius that is not positive, unknown names, or bounds that leave
            out the centre.
    """

    like: Sequence[Tensor]
    radius: float
    norm: Norm = "2"
    share: Share = "all"
    scale: Sequence[Tensor] | None = None
    low: Sequence[Tensor] | None = None
    high: Sequence[Tensor] | None = None

    def __post_init__(self) -> None:
        check_bounds({"radius": self.radius}, {"radius": POSITIVE})
        check_choice("norm", self.norm, get_args(Norm))
        check_choice("share", self.share, get_args(Share))
        outside = any(bool((t > 0).any()) for t in self.low or ()) or any(
            bool((t < 0).any()) for t in self.high or ()
        )
        if outside:
            raise SettingError(
                "low must be <= 0 and high >= 0 in every entry, got bounds that leave "
                "out the centre of the ball; move the centre into them."
            )

    def centre(self) -> list[Tensor]:
        """No displacement."""
        return [torch.zeros_like(t) for t in self.like]

    def displacements(self, units: Sequence[Tensor]) -> list[Tensor]:
        """Displacements of points in units of the scale, and gradients the other way.

        Args:
            units: P tensors.
        """
        if self.scale is None:
            return list(units)
        return [c * u for c, u in zip(self.scale, units, strict=True)]

    def project(self, units: Sequence[Tensor]) -> list[Tensor]:
        """Nearest points of the ball, then of the bounds.

        Args:
            units: P tensors in units of the scale.
        """
        if self.norm == "inf":
            inside = [u.clamp(-self.radius, self.radius) for u in units]
        else:
            norms = self._norms(units)
            shrunk = [(self.radius / n).clamp(max=1.0) for n in norms]
            inside = [u * s for u, s in zip(units, shrunk, strict=True)]
        if self._bounds is None:
            return inside
        # A bound never leads away from the centre, so that this stays in the ball.
        return [
            torch.clamp(u, low, high)
            for u, low, high in zip(inside, *self._bounds, strict=True)
        ]

    def direction(
        self, gradients: Sequence[Tensor], otherwise: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        """The steepest way up of norm 1, in units of the scale.

        Entries of a gradient that are not finite count as 0.

        Args:
            gradients: P tensors, in units of the scale.
            otherwise: P tensors in the place of the gradients where all entries that
                share a norm have none, as at a minimum.
        """
        finite = [torch.nan_to_num(g, 0.0, 0.0, 0.0) for g in gradients]
        norms = self._norms(finite)
        if any(bool((n == 0).any()) for n in norms):
            finite = [
                torch.where(n == 0, z, g)
                for n, z, g in zip(norms, otherwise(), finite, strict=True)
            ]
            norms = self._norms(finite)
        if self.norm == "inf":
            return [g.sign() for g in finite]
        # An entry that nothing moves (c = 0) may be alone with its norm.
        return [
            torch.where(n == 0, 0.0, g / n) for g, n in zip(finite, norms, strict=True)
        ]

    def drawn(self, generator: torch.Generator | None) -> list[Tensor]:
        """A random direction, the same for all rows: they do not see each other."""
        like = [t[:1] if self.share == "row" else t for t in self.like]
        noise = gaussian_noise(like, 1.0, generator).draw()
        noise = [z.expand_as(t) for z, t in zip(noise, self.like, strict=True)]
        # Where nothing moves, nothing is to count in the norm.
        return self._still(noise)

    def random(self, generator: torch.Generator | None) -> list[Tensor]:
        """A random point: uniform for "inf", of uniform direction and norm for "2"."""
        if self.norm == "inf":
            return self.project(
                uniform_noise(self.like, self.radius, "none", generator).draw()
            )
        noise = self._still(gaussian_noise(self.like, 1.0, generator).draw())
        way = self.direction(noise, lambda: noise)
        norms = self._norms(way)
        owners = norms if self.share == "tensor" else norms[:1]
        zeros = [torch.zeros_like(n) for n in owners]
        drawn = [u + 0.5 for u in uniform_noise(zeros, 0.5, "none", generator).draw()]
        if self.share != "tensor":
            drawn = [drawn[0].view(n.shape) for n in norms]
        lengths = [self.radius * share for share in drawn]
        return self.project([r * u for r, u in zip(lengths, way, strict=True)])

    def _still(self, noise: list[Tensor]) -> list[Tensor]:
        """Noise without the entries that nothing moves."""
        if self.scale is None:
            return noise
        return [
            torch.where(c == 0, 0.0, z) for c, z in zip(self.scale, noise, strict=True)
        ]

    def _norms(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """L2 norms of entries that share one, which broadcast against each tensor."""
        if self.share == "tensor":
            return [joint_norm([t]).to(t) for t in tensors]
        if self.share == "all":
            norm = joint_norm(list(tensors))
            return [norm.to(t) for t in tensors]
        # Squares in float32 underflow for gradients of samples that are sure.
        squares = sum(t.double().square().flatten(1).sum(1) for t in tensors)
        assert isinstance(squares, Tensor)
        return [along_rows(squares.sqrt(), t).to(t) for t in tensors]

    @cached_property
    def _bounds(self) -> tuple[list[Tensor], list[Tensor]] | None:
        """Bounds in units of the scale."""
        if self.low is None and self.high is None:
            return None
        ends = []
        for bounds, open_end in ((self.low, -torch.inf), (self.high, torch.inf)):
            full = bounds or [torch.full_like(t, open_end) for t in self.like]
            scales = self.scale or [torch.ones_like(t) for t in self.like]
            ends.append(
                [
                    torch.where(c == 0, 0.0, bound / c).to(t)
                    for bound, c, t in zip(full, scales, self.like, strict=True)
                ]
            )
        return ends[0], ends[1]


def along_rows(numbers: Tensor, tensor: Tensor) -> Tensor:
    """Numbers that broadcast against a tensor: one, shape (), or B of its rows."""
    if numbers.dim() == 0:
        return numbers
    return numbers.view(-1, *[1] * (tensor.dim() - 1))
