"""Random products with the Hessian that the trace and the Frobenius norm share.

Shape letters: D parameters in all, K draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.linalg.deflation import (
    STEPS,
    AbstractDraws,
    KnownPart,
    Rows,
    blocks,
    products,
)
from steppe.linalg.probes import gaussian, rademacher
from steppe.linalg.protocols import LinearOperator
from steppe.measures.measurement import JointNeed, Measurement, Need
from steppe.measures.needs.spectrum.curvature import Scale, ScaledHessian
from steppe.measures.needs.spectrum.krylov import KrylovStart, krylov_steps

Law = Literal["signs", "gaussian"]
WHOLE = [slice(None)]


@dataclass(frozen=True)
class HessianDraw(JointNeed[Tensor]):
    """z' H z and |H z|^2 of a random vector z, shape (2,), float64, on the host.

    Args:
        number: of the draw, from 0.
        law: distribution of the entries of z: random signs, or standard normal.
        scale: coordinates of the Hessian.
    """

    kind: ClassVar[str] = "random products"

    number: int
    law: Law = "signs"
    scale: Scale = "raw"

    def vector(self, measurement: Measurement, hessian: LinearOperator) -> Tensor:
        """The random vector, shape (D,)."""
        source = measurement.stream(f"hessian {self.law}", self.number)
        if self.law == "gaussian":
            return gaussian(hessian, source)
        return rademacher(hessian, 1, source)[:, 0]

    @classmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Multiply in blocks, one product for each vector."""

        def rows(scale: Scale, z: Tensor) -> Rows:
            return products(measurement.of(ScaledHessian(scale)), z, WHOLE)

        return _in_blocks(needs, measurement, rows)


@dataclass(frozen=True)
class KnownPartOfHessian(Need[KnownPart]):
    """The part of the Hessian that the first steps of the first Lanczos run know."""

    kind: ClassVar[str] = "Lanczos run"

    scale: Scale = "raw"

    def serve(self, measurement: Measurement) -> KnownPart:
        """Read it off the run."""
        steps = krylov_steps(measurement, STEPS, self.scale).steps
        krylov = measurement.of(KrylovStart(self.scale))
        hessian = measurement.of(ScaledHessian(self.scale))
        return KnownPart(hessian, krylov, WHOLE, steps)


@dataclass(frozen=True)
class KnownDraw(JointNeed[Tensor]):
    """The same two numbers of a draw, of the part of the Hessian that is known.

    Args:
        draw: of the Hessian.
    """

    kind: ClassVar[str] = "Lanczos run"

    draw: HessianDraw

    @classmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Draw the vectors again; no product."""

        def rows(scale: Scale, z: Tensor) -> Rows:
            return measurement.of(KnownPartOfHessian(scale)).draws(z)

        return _in_blocks([need.draw for need in needs], measurement, rows)


class HessianDraws(AbstractDraws):
    """Draws of the Hessian that measures share, as its algorithms ask for them."""

    def __init__(self, measurement: Measurement, scale: Scale = "raw") -> None:
        self._measurement = measurement
        self._scale = scale

    def drawn(self, count: int) -> Rows:
        """The first K draws, one product each."""
        return _rows(self._measurement.of_all(self._draws(count)))

    def known(self) -> tuple[Tensor, float]:
        """Trace of the known part, (1,), and its sum of squares."""
        part = self._measurement.of(KnownPartOfHessian(self._scale))
        return part.traces, part.square

    def known_drawn(self, count: int) -> Rows:
        """The same draws of the known part."""
        known = [KnownDraw(draw) for draw in self._draws(count)]
        return _rows(self._measurement.of_all(known))

    def _draws(self, count: int) -> list[HessianDraw]:
        return [HessianDraw(number, scale=self._scale) for number in range(count)]


def _in_blocks(
    draws: Sequence[HessianDraw],
    measurement: Measurement,
    rows: Callable[[Scale, Tensor], Rows],
) -> list[Tensor]:
    """Two numbers of each draw, (2,)."""
    numbers: dict[HessianDraw, Tensor] = {}
    for scale in dict.fromkeys(draw.scale for draw in draws):
        hessian = measurement.of(ScaledHessian(scale))
        alike = [draw for draw in draws if draw.scale == scale]
        for block in blocks(hessian, range(len(alike))):
            members = [alike[place] for place in block]
            vectors = [draw.vector(measurement, hessian) for draw in members]
            both = _pairs(rows(scale, torch.stack(vectors, dim=1)))
            numbers.update(zip(members, both, strict=True))
    return [numbers[draw] for draw in draws]


def _pairs(rows: Rows) -> list[Tensor]:
    return list(torch.stack([rows[0][0], rows[1]], dim=1))


def _rows(pairs: Sequence[Tensor]) -> Rows:
    both = torch.stack(list(pairs), dim=1)
    return both[:1], both[1]
