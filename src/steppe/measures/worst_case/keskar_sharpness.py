"""Keskar sharpness: the largest relative rise of the loss in a box around the weights.

Source: Keskar et al., 2017, arXiv:1609.04836, Metric 2.1.

Shape letters: P parameter tensors, D parameters, K dimensions of a subspace.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe.adversarial.auto_pgd import auto_pgd
from steppe.adversarial.balls import Ball
from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.groups import loss_of_all
from steppe.noise import gaussian_noise
from steppe.parameters import overwrite_, restored
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "keskar_sharpness",
    source="Keskar et al., 2017, arXiv:1609.04836, Metric 2.1",
    units="percent of 1 + loss",
    invariant_to=("unit_permutation",),
    cost=Cost(gradients=21),
    cost_note="(steps + 1) (restarts + 1)",
)
@dataclass(frozen=True, kw_only=True)
class KeskarSharpness(AbstractMeasure):
    """Keskar sharpness: the largest rise of the loss in a box, over one plus the loss.

    It is 100 (max L(w + delta) - L(w)) / (1 + L(w)) over |delta_i| <=
    epsilon (|w_i| + 1), for the mean loss of all data. With a subspace, delta = A y
    with K random directions of length 1 as the columns of A, and |y_i| <=
    epsilon (|(A^+ w)_i| + 1).

    Differences from the paper: the maximum is that of Auto-PGD, which takes a lower
    bound as the paper's ten steps of L-BFGS-B do; with a subspace a value depends on
    the directions drawn, whose error one draw does not tell (it is infinite).

    Args:
        epsilon: half the width of the box; the paper has 0.001 and 0.0005.
        subspace: dimensions K of a random subspace, 100 in the paper, or None for all.
            It takes K copies of the parameters in memory.
        steps: of Auto-PGD.
        restarts: further searches from random points of the box.
    """

    bounds: ClassVar[Ranges] = {
        "epsilon": POSITIVE,
        "subspace": at_least(1),
        "steps": at_least(1),
        "restarts": at_least(0),
    }

    epsilon: float = 1e-3
    subspace: int | None = None
    steps: int = 20
    restarts: int = 0

    def needs(self) -> Sequence[Need[Any]]:
        """None that others have."""
        return []

    def estimate(self, measurement: Measurement) -> Estimate:
        """Ascend in the box."""
        objective = measurement.objective
        objective.check_repeatable()
        objective.count()  # refuses data without a loss term
        source = measurement.stream("box_sharpness")  # the label decides the draws
        with objective.measuring(), restored(objective.params) as centre:
            displaced, reduced, scale = self._coordinates(centre, source)

            def evaluate(point: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
                pairs = zip(centre, displaced(point), strict=True)
                overwrite_(objective.params, [c + d for c, d in pairs])
                loss = loss_of_all(objective)
                return loss.value, reduced(loss.gradient)

            ascent = auto_pgd(
                evaluate,
                Ball(like=scale, radius=self.epsilon, norm="inf", scale=scale),
                steps=self.steps,
                restarts=self.restarts,
                generator=source,
            )
        objective.cost += Cost(gradients=ascent.evaluations)
        base, top = float(ascent.start), float(ascent.losses)
        if base <= -1:
            raise UsageError(
                f"keskar_sharpness divides by 1 + loss, which must be positive, got "
                f"the loss {base:.3g}; add a constant to it, or take worst_sharpness."
            )
        drawn = self.subspace is not None
        return Estimate(
            value=100 * (top - base) / (1 + base),
            stderr=math.inf if drawn else 0.0,
            samples=1 if drawn else 0,
            converged=math.isfinite(top),
            details={"base_loss": base, "largest_loss": top},
        )

    def _coordinates(
        self, centre: list[Tensor], source: torch.Generator
    ) -> tuple[
        Callable[[list[Tensor]], list[Tensor]],
        Callable[[list[Tensor]], list[Tensor]],
        list[Tensor],
    ]:
        """Displacements of a point of the box, gradients by it, and half its widths.

        Args:
            centre: P tensors, the weights.
            source: of the directions.
        """
        if self.subspace is None:
            return lambda d: d, lambda g: g, [c.abs() + 1 for c in centre]
        shapes = [c.expand(self.subspace, *c.shape) for c in centre]
        drawn = gaussian_noise(shapes, 1.0, source).draw()
        rows = [a.flatten(1) for a in drawn]  # A', cut by tensors: (K, size) each
        parts = [torch.linalg.vector_norm(a, dim=1) for a in rows]
        lengths = torch.linalg.vector_norm(torch.stack(parts).double(), dim=0)
        for a in rows:  # in place: there may be no memory for a second A
            a.div_(lengths.to(a)[:, None])

        def by_rows(tensors: Sequence[Tensor]) -> Tensor:
            pairs = zip(rows, tensors, strict=True)
            return torch.stack([(a @ t.flatten()).double() for a, t in pairs]).sum(0)

        gram = torch.stack([(a @ a.T).double() for a in rows]).sum(0)
        inverse = torch.linalg.lstsq(gram, by_rows(centre)[:, None]).solution[:, 0]
        half = (inverse.abs() + 1).to(centre[0])

        def displaced(point: list[Tensor]) -> list[Tensor]:
            return [
                (point[0].to(a) @ a).view(c.shape)
                for a, c in zip(rows, centre, strict=True)
            ]

        return displaced, lambda g: [by_rows(g).to(half)], [half]
