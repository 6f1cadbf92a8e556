"""Low-pass filtered loss (LPF): the mean loss under Gaussian noise on the weights.

Source: Bisla et al., 2022, arXiv:2201.08025, Equation 3. By default the noise is
relative to the norm of each filter, which stands for the balancing of the network that
the published code does first; "raw" is its plain isotropic noise.

Shape letters: M random draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import torch

from steppe.cost import Cost
from steppe.errors import check_choice
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs import LossTerms
from steppe.measures.needs.perturbed import Scale, perturbed_losses
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "lpf",
    source="Bisla et al., 2022, arXiv:2201.08025, Equation 3",
    units="loss",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    needs=("outputs", "perturbed losses"),
    cost=Cost(forwards=101),
    cost_note="samples + 1",
)
@dataclass(frozen=True, kw_only=True)
class LPF(AbstractMeasure):
    """Mean loss under Gaussian noise on the weights; it contains the loss itself.

    Buffers do not follow the noise: in mode "eval" of the objective, batch norm keeps
    the running statistics of the weights in the middle, in mode "train" it has those
    of the batch at each draw.

    Args:
        sigma: standard deviation of the noise, as a share of the norm of the filter
            (scale "filter") or in the units of the parameters (scale "raw").
        samples: number of draws M, at least 2.
        scale: "filter" follows a rescaling of layers that keeps the function; "raw"
            does not.
    """

    bounds: ClassVar[Ranges] = {"sigma": POSITIVE, "samples": at_least(2)}

    sigma: float = 0.01
    samples: int = 100
    scale: Scale = "filter"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("scale", self.scale, get_args(Scale))

    def needs(self) -> Sequence[Need[Any]]:
        """The loss in the middle."""
        return [LossTerms()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Draw, evaluate, average; the standard error is over the draws."""
        base = measurement.objective.value_of(measurement.of(LossTerms()))
        losses = perturbed_losses(measurement, self.samples, self.sigma, self.scale)
        return Estimate(
            value=float(losses.mean()),
            stderr=float(losses.std()) / self.samples**0.5,
            samples=self.samples,
            converged=bool(torch.isfinite(losses).all()),
            details={"base_loss": base.value},
        )
