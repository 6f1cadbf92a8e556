"""Low-pass filtered loss (LPF): the mean loss under Gaussian noise on the weights.

Source: Bisla et al., 2022, arXiv:2201.08025, the LPF measure. By default the noise is
relative to the norm of each filter; "balanced" is the noise of the published code,
which balances the network first and then adds isotropic noise.

Shape letters: M random draws.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.measures.needs.points.perturbed import Scale, perturbed_losses
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate

LEAST = 20  # draws, before their spread is trusted to end them


@MEASURES.add(
    "lpf",
    source="Bisla et al., 2022, arXiv:2201.08025, LPF measure",
    units="loss",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    needs=("outputs", "perturbed losses"),
    cost=Cost(forwards=101),
    cost_note="samples + 1; fewer where rtol is met",
    later=("rtol",),
    planned_by="rtol",
)
@dataclass(frozen=True, kw_only=True)
class LPF(AbstractMeasure):
    """Mean loss under Gaussian noise on the weights; it contains the loss itself.

    Buffers do not follow the noise: in mode "eval" of the objective, batch norm keeps
    the running statistics of the weights in the middle, in mode "train" it has those
    of the batch at each draw.

    Args:
        sigma: standard deviation of the noise, in units of the scale.
        samples: number of draws M, at least 2.
        scale: "filter" is relative to the norm of each filter and follows a rescaling
            of layers that keeps the function; "balanced" is relative to that of each
            filter with its bias, the noise of the published code; "raw" is in the units
            of the parameters, "adaptive" relative to each weight.
        rtol: asked standard error as a share of the excess of the value over the loss
            itself; draws end where it is met, from the 20th on. 0 for all of them.
    """

    bounds: ClassVar[Ranges] = {
        "sigma": POSITIVE,
        "samples": at_least(2),
        "rtol": (0.0, math.inf),
    }

    sigma: float = 0.01
    samples: int = 100
    scale: Scale = "filter"
    rtol: float = 0.0

    def needs(self) -> Sequence[Need[Any]]:
        """The loss in the middle."""
        return [LossTerms()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Draw, evaluate, average; the standard error is over the draws."""
        base = measurement.objective.value_of(measurement.of(LossTerms())).value
        losses = self._losses(measurement, base)
        met = not self.rtol or self._is_met(losses, base)
        return Estimate(
            value=float(losses.mean()),
            stderr=float(losses.std()) / len(losses) ** 0.5,
            samples=len(losses),
            converged=bool(torch.isfinite(losses).all()) and met,
            details={"base_loss": base},
        )

    def _losses(self, measurement: Measurement, base: float) -> Tensor:
        """At the first points: all of them, or as few as the tolerance takes."""
        if not self.rtol:
            return perturbed_losses(measurement, self.samples, self.sigma, self.scale)
        count = min(LEAST, self.samples)
        while True:
            losses = perturbed_losses(measurement, count, self.sigma, self.scale)
            if count == self.samples or self._is_met(losses, base):
                return losses
            count += 1

    def _is_met(self, losses: Tensor, base: float) -> bool:
        """Whether the standard error is within the tolerance."""
        error = float(losses.std()) / math.sqrt(len(losses))
        return error <= self.rtol * abs(float(losses.mean()) - base)
