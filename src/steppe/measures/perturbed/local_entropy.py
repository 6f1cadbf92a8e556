"""Local entropy: the free energy of the loss in a Gaussian neighbourhood.

Source: Chaudhari et al., 2017, arXiv:1611.01838, local entropy; the published estimate
is that of Bisla et al., 2022, arXiv:2201.08025.

Shape letters: M random draws, d parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.points.perturbed import Scale, perturbed_losses
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate

LARGEST_ERROR = 0.3  # in nats; beyond it a few of the draws decide the mean


@MEASURES.add(
    "local_entropy",
    source="Chaudhari et al., 2017, arXiv:1611.01838, local entropy",
    units="nats",
    invariant_to=("unit_permutation",),
    needs=("perturbed losses",),
    cost=Cost(forwards=100),
    cost_note="samples",
)
@dataclass(frozen=True, kw_only=True)
class LocalEntropy(AbstractMeasure):
    """Local free energy: -log of the integral of exp(-L(w') - gamma/2 |w - w'|^2).

    It is -log E exp(-L(w + z / sqrt(gamma))) + d/2 log(gamma / (2 pi)) with z standard
    normal. The sign is that of a sharpness: the local entropy itself is its negative.
    The second term depends on the number of parameters alone; the first one stands
    apart in the details as "free_energy". With another scale than "raw", the integral
    is over its coordinates.

    Where one draw of the noise has nearly all of the weight, as with many parameters
    and a small gamma, the mean over draws says little, and neither does its error: the
    value has not converged where that is above 0.3. `local_entropy_gradient` needs no
    such mean.

    The variant "published" differs in two ways: the noise is z / gamma, in place of
    z / sqrt(gamma), and the constant is 1/2 log(gamma) - d/2 log(2 pi). Its code for
    networks has lost the sign of the loss in the exponent, too, which its code for
    functions has; the sign is here.

    Args:
        gamma: inverse variance of the Gaussian, per squared unit of the scale.
        samples: number of draws M, at least 2.
        scale: of the noise: "raw", "filter", "balanced" or "adaptive"; see `lpf`.
        variant: "correct" or "published".
    """

    bounds: ClassVar[Ranges] = {"gamma": POSITIVE, "samples": at_least(2)}

    gamma: float = 100.0
    samples: int = 100
    scale: Scale = "raw"
    variant: Variant = "correct"

    def needs(self) -> Sequence[Need[Any]]:
        """None before it begins."""
        return []

    def estimate(self, measurement: Measurement) -> Estimate:
        """Draw and average; the error is carried through the logarithm."""
        published = self.variant == "published"
        sigma = 1 / self.gamma if published else self.gamma**-0.5
        losses = perturbed_losses(measurement, self.samples, sigma, self.scale)
        least = float(losses.min())
        weights = torch.exp(least - losses)
        mean = float(weights.mean())
        energy = least - math.log(mean) if mean > 0 else math.nan
        d = sum(p.numel() for p in measurement.objective.params)
        power = 1 if published else d  # of gamma in the volume of the Gaussian
        constant = (power * math.log(self.gamma) - d * math.log(2 * math.pi)) / 2
        error = float(weights.std()) / (mean * math.sqrt(self.samples))
        return Estimate(
            value=energy + constant,
            stderr=error,
            samples=self.samples,
            converged=math.isfinite(energy) and error <= LARGEST_ERROR,
            details={"free_energy": energy, "constant": constant},
        )
