"""Lanczos runs of the Hessian that measures of its spectrum share.

The first run is made step by step. Each measure reads the shortest beginning that meets
its own criterion: the leading part of a Lanczos run is the shorter run, so that value
and cost do not depend on how far another measure went on.

Shape letters: D parameters in all, m Krylov steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe.linalg.krylov import Krylov, Projection
from steppe.linalg.lanczos import RitzPairs, Target, shortest
from steppe.linalg.probes import uniform
from steppe.linalg.protocols import uncast
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.spectrum.curvature import Scale, ScaledHessian

PUBLISHED_STEPS, PUBLISHED_STARTS = 100, 2  # of Bisla et al., 2022
LEAST = 20  # steps before the first test, as `steppe.linalg.lanczos.eigsh` makes


@dataclass(frozen=True)
class KrylovStart(Need[Krylov]):
    """The Krylov space of the first run, in which nothing was multiplied yet.

    Its steps are needs of their own: whoever has the space reads `projection(m)` of
    steps that were served.
    """

    kind: ClassVar[str] = "Lanczos run"

    scale: Scale = "raw"

    def serve(self, measurement: Measurement) -> Krylov:
        """Draw the start."""
        return _started(measurement, self.scale, 0)


@dataclass(frozen=True)
class KrylovStep(Need[None]):
    """One step of the first run: one Hessian product.

    Args:
        number: of the step, from 1; all before it are needed too.
        scale: coordinates of the Hessian.
    """

    kind: ClassVar[str] = "Lanczos run"

    number: int
    scale: Scale = "raw"

    def serve(self, measurement: Measurement) -> None:
        """Expand the space."""
        if self.number > 1:
            measurement.of(KrylovStep(self.number - 1, self.scale))
        krylov = measurement.of(KrylovStart(self.scale))
        with uncast(measurement.of(ScaledHessian(self.scale))):
            krylov.step()


@dataclass(frozen=True)
class FurtherRun(Need[tuple[Projection, Tensor]]):
    """A run from another start; its basis is let go when it ends.

    The value is the projection, and the inner products of the bases of the first run
    and this one, shape (m, m).

    Args:
        number: of the start, from 1.
        steps: m; not more than D are made, of the first run neither.
        scale: coordinates of the Hessian.
    """

    kind: ClassVar[str] = "Lanczos run"

    number: int
    steps: int
    scale: Scale = "raw"

    def serve(self, measurement: Measurement) -> tuple[Projection, Tensor]:
        """Make all steps."""
        known = krylov_steps(measurement, self.steps, self.scale).steps
        first = measurement.of(KrylovStart(self.scale))
        other = _started(measurement, self.scale, self.number)
        with uncast(measurement.of(ScaledHessian(self.scale))):
            for _ in range(known):
                other.step()
            overlaps = first.overlaps(other, known)
        return other.projection(), overlaps


def krylov_steps(
    measurement: Measurement, steps: int, scale: Scale = "raw"
) -> Projection:
    """The Hessian as the first m steps of the first run know it, at most D of them."""
    krylov = measurement.of(KrylovStart(scale))
    steps = min(steps, krylov.size)
    # In their order, so that none of them has to ask for those before it.
    numbers = range(1, steps + 1)
    measurement.of_all([KrylovStep(number, scale) for number in numbers])
    return krylov.projection(steps)


def krylov_runs(
    measurement: Measurement, steps: int, starts: int, scale: Scale = "raw"
) -> tuple[list[Projection], list[Tensor]]:
    """Runs of m steps from several starts, and overlaps of the first with the others.

    The starts are uniform in [-1, 1], as published (Bisla et al., 2022,
    arXiv:2201.08025); their expected outer product is that of random signs. Where the
    first run has all eigenvalues, the others would have the same, and are not made.
    """
    first = krylov_steps(measurement, steps, scale)
    starts = 1 if first.exhausted else starts
    needs = [FurtherRun(number, steps, scale) for number in range(1, starts)]
    further: list[Any] = measurement.of_all(needs)
    runs, overlaps = [run for run, _ in further], [both for _, both in further]
    return [first, *runs], overlaps


def extreme_pair(
    measurement: Measurement, target: Target, scale: Scale = "raw"
) -> tuple[RitzPairs, int]:
    """The pair at one end of the spectrum, and the steps of the run it took."""
    known = []

    def space(steps: int) -> Projection:
        known.append(krylov_steps(measurement, steps, scale))
        return known[-1]

    pairs = shortest(space, target)
    return pairs, known[-1].steps


def ritz_values(
    measurement: Measurement, steps: int, starts: int, scale: Scale = "raw"
) -> Tensor:
    """Ritz values of runs from several starts, (starts, m) ascending."""
    runs, _ = krylov_runs(measurement, steps, starts, scale)
    return torch.stack([run.ritz()[0] for run in runs])


def published_values(measurement: Measurement, scale: Scale = "raw") -> Tensor:
    """Ritz values averaged in their order over two starts, (m,) ascending.

    They were published as the eigenvalues (Bisla et al., 2022, arXiv:2201.08025).
    """
    return ritz_values(measurement, PUBLISHED_STEPS, PUBLISHED_STARTS, scale).mean(0)


def _started(measurement: Measurement, scale: Scale, number: int) -> Krylov:
    hessian = measurement.of(ScaledHessian(scale))
    source = measurement.stream("krylov", number)
    with uncast(hessian):
        return Krylov(hessian, uniform(hessian, source), source)
