"""First-order sharpness of ASAM: the length of the gradient in units of the weights.

Source: Kwon et al., 2021, arXiv:2102.11600, adaptive sharpness, here to first
order.
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
    GroupGradientNorms,
    Groups,
    mean_over_groups,
)
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "asam_sharpness",
    source="Kwon et al., 2021, arXiv:2102.11600, adaptive sharpness",
    units="loss",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("groups of samples", "gradients of groups"),
    cost=Cost(gradients=1),
)
@dataclass(frozen=True, kw_only=True)
class ASAMSharpness(AbstractMeasure):
    """First-order adaptive sharpness of ASAM: rho || |w| g ||.

    For a group of samples with the gradient g it is the rise of the linearised loss in
    the ball ||delta / |w| || <= rho, in which ASAM ascends; the value is the mean over
    groups, which weigh as their samples. Unlike in the optimizer's default, every
    parameter is measured in units of itself, biases too, and nothing is added to |w|.

    Args:
        rho: radius of the ball, a share of the weights.
        group_size: samples m of a group. Where losses of a batch are not those of its
            rows, the groups are the batches of the data, and the details say so.
    """

    bounds: ClassVar[Ranges] = {"rho": POSITIVE, "group_size": at_least(1)}

    rho: float = 0.5
    group_size: int = 128

    def needs(self) -> Sequence[Need[Any]]:
        """Norms of the gradients of the groups."""
        return [GroupGradientNorms(self.group_size)]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average over the groups; the standard error is over them."""
        norms = measurement.of(GroupGradientNorms(self.group_size))
        rises = [self.rho * scaled for _, scaled, _ in norms]
        value, stderr = mean_over_groups(rises, [terms for _, _, terms in norms])
        return Estimate(
            value=value,
            stderr=stderr,
            samples=len(norms),
            converged=math.isfinite(value),
            details=measurement.of(Groups(self.group_size)).details,
        )
