"""Worst-case m-sharpness: the largest rise of the loss of a group in a ball.

Source: Andriushchenko et al., 2023, arXiv:2302.07011, section 3, with the adaptive
ball of Kwon et al., 2021, arXiv:2102.11600, and Auto-PGD of Croce and Hein, 2020,
arXiv:2003.01690.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from steppe.adversarial.auto_pgd import Ascent, auto_pgd
from steppe.adversarial.balls import Ball, Norm
from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.groups import (
    Groups,
    loss_of_group,
    mean_over_groups,
    moving,
)
from steppe.parameters import overwrite_
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "worst_sharpness",
    source="Andriushchenko et al., 2023, arXiv:2302.07011, section 3",
    units="loss",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("groups of samples",),
    cost=Cost(gradients=21),
    cost_note="(steps + 1) (restarts + 1)",
)
@dataclass(frozen=True, kw_only=True)
class WorstSharpness(AbstractMeasure):
    """Worst-case sharpness: the largest rise of the loss in a ball around the weights.

    For each group B of samples it is max L_B(w + delta) - L_B(w) over
    ||delta / c||_p <= rho, with c = |w| (adaptive) or 1; the value is the mean over
    groups, which weigh as their samples, and the error is over groups. The maximum is
    that of Auto-PGD, a lower bound of the true one; its first direction is random where
    the gradient is zero. In the adaptive ball weights of 0 do not move, such as biases
    at the start of a training. The invariances are those of the adaptive ball; with
    normalised logits, a factor of the outputs changes nothing either. The authors find
    no sign that holds for all tasks: sharper networks may generalise better.

    Their protocol measures 1024 samples of the training set without augmentation, with
    rho of 0.25 to 2 for p="2", 0.0005 to 0.004 for p="inf" and 0.001 to 0.008 for
    p="inf" with the adaptive ball.

    Differences from the published code: its random restarts fail, and its adaptive
    ascent for p="2" goes along |w| g / ||g||, which is not the steepest way in that
    ball, w^2 g / ||w g||. Here both are as the papers say.

    Args:
        rho: radius of the ball, in units of the weights, or a share of each weight for
            the adaptive one.
        p: norm of the ball, "2", or "inf" for the largest entry.
        adaptive: measure displacements in units of each weight.
        logit_normalised: take the cross-entropy of normalised logits; see
            `steppe.LogitNormalised`.
        group_size: samples m of a group. Where losses of a batch are not those of its
            rows, the groups are the batches of the data, and the details say so.
        steps: of Auto-PGD.
        restarts: further searches from random points of the ball.
    """

    bounds: ClassVar[Ranges] = {
        "rho": POSITIVE,
        "group_size": at_least(1),
        "steps": at_least(1),
        "restarts": at_least(0),
    }

    rho: float = 0.002
    p: Norm = "inf"
    adaptive: bool = True
    logit_normalised: bool = False
    group_size: int = 128
    steps: int = 20
    restarts: int = 0

    def needs(self) -> Sequence[Need[Any]]:
        """The groups."""
        return [Groups(self.group_size, self.logit_normalised)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Ascend in each group."""
        grouped = measurement.of(Groups(self.group_size, self.logit_normalised))
        groups = grouped.objective
        ascents: list[tuple[Ascent, int]] = []
        with moving(groups, measurement.objective) as centre:
            ball = Ball(
                like=centre,
                radius=self.rho,
                norm=self.p,
                scale=[c.abs() for c in centre] if self.adaptive else None,
            )
            for index in range(len(groups.batches)):
                terms = 0

                def evaluate(
                    delta: list[Tensor], index: int = index
                ) -> tuple[Tensor, list[Tensor]]:
                    nonlocal terms
                    pairs = zip(centre, delta, strict=True)
                    overwrite_(groups.params, [c + d for c, d in pairs])
                    loss = loss_of_group(groups, index)
                    terms = loss.terms
                    return loss.value, loss.gradient

                ascent = auto_pgd(
                    evaluate,
                    ball,
                    steps=self.steps,
                    restarts=self.restarts,
                    generator=measurement.stream("worst_sharpness", index),
                )
                if terms:
                    ascents.append((ascent, terms))
        passes = (self.steps + 1) * (self.restarts + 1)
        measurement.objective.cost += Cost(gradients=passes)
        rises = [float(ascent.losses - ascent.start) for ascent, _ in ascents]
        terms_of = [terms for _, terms in ascents]
        value, stderr = mean_over_groups(rises, terms_of)
        base, _ = mean_over_groups([float(a.start) for a, _ in ascents], terms_of)
        return Estimate(
            value=value,
            stderr=stderr,
            samples=len(ascents),
            converged=math.isfinite(value),
            details={
                "base_loss": base,
                "late_gain": self._late_gain([a for a, _ in ascents]),
                **grouped.details,
            },
        )

    def _late_gain(self, ascents: Sequence[Ascent]) -> float:
        """Share of the rise of the first search that came in its last quarter.

        A large one says that more steps would find more.
        """
        late = sum(
            float(a.history[-1] - a.history[-1 - self.steps // 4]) for a in ascents
        )
        whole = sum(float(a.history[-1] - a.history[0]) for a in ascents)
        return late / whole if whole else 0.0
