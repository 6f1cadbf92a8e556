"""Surrogate gap of GSAM: the rise of the loss along the gradient.

Source: Zhuang et al., 2022, arXiv:2203.08065, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.groups import (
    Groups,
    loss_of_group,
    mean_over_groups,
    moving,
)
from steppe.parameters import displace_, overwrite_
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate
from steppe.vectors import joint_norm, scaled_


@MEASURES.add(
    "surrogate_gap",
    source="Zhuang et al., 2022, arXiv:2203.08065, section 3",
    units="loss",
    invariant_to=("unit_permutation",),
    needs=("groups of samples",),
    cost=Cost(forwards=1, gradients=1),
)
@dataclass(frozen=True, kw_only=True)
class SurrogateGap(AbstractMeasure):
    """Surrogate gap of GSAM: the rise of the loss after a step along its gradient.

    For a group of samples with the gradient g it is h = L(w + rho g / ||g||) - L(w),
    for which the paper has rho^2 / 2 times the largest eigenvalue of the Hessian near a
    minimum. It is less where the gradient is no eigenvector of that. The value is the
    mean over groups, which weigh as their samples; the error is over groups. It may be
    negative; a group without a gradient has 0.

    Args:
        rho: length of the step, in units of the weights.
        group_size: samples m of a group. Where losses of a batch are not those of its
            rows, the groups are the batches of the data, and the details say so.
    """

    bounds: ClassVar[Ranges] = {"rho": POSITIVE, "group_size": at_least(1)}

    rho: float = 0.05
    group_size: int = 128

    def needs(self) -> Sequence[Need[Any]]:
        """The groups."""
        return [Groups(self.group_size)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Step up and back in each group."""
        grouped = measurement.of(Groups(self.group_size))
        groups = grouped.objective
        gaps, terms = [], []
        with moving(groups, measurement.objective) as centre:
            for index in range(len(groups.batches)):
                loss = loss_of_group(groups, index)
                if not loss.terms:
                    continue
                radii = [self.rho] * len(centre)
                step = scaled_(loss.gradient, radii, joint_norm(loss.gradient))
                displace_(groups.params, step)
                groups.renew_statistics()
                above = groups.batch_values(index).double().sum() / loss.terms
                gaps.append(float(above + groups.penalty_value() - loss.value))
                terms.append(loss.terms)
                overwrite_(groups.params, centre)
        measurement.objective.cost += Cost(forwards=1, gradients=1)
        value, stderr = mean_over_groups(gaps, terms)
        return Estimate(
            value=value,
            stderr=stderr,
            samples=len(gaps),
            converged=math.isfinite(value),
            details=grouped.details,
        )
