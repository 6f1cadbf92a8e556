"""Average-case sharpness: the mean rise of the loss under noise on the weights.

Source: Andriushchenko et al., 2023, arXiv:2302.07011, section 3.

Shape letters: M random draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.normalised_logits import with_normalised_logits
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.measures.needs.points.perturbed import Distribution, perturbed_losses
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "average_sharpness",
    source="Andriushchenko et al., 2023, arXiv:2302.07011, section 3",
    units="loss",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("outputs", "perturbed losses"),
    cost=Cost(forwards=101),
    cost_note="samples + 1",
)
@dataclass(frozen=True, kw_only=True)
class AverageSharpness(AbstractMeasure):
    """Average-case sharpness: the mean rise of the loss under noise on the weights.

    It is E L(w + rho c z) - L(w) with c = |w| (adaptive) or 1, and z Gaussian or
    uniform in [-1, 1]. Near a minimum it is rho^2 / 2 sum(c^2 diag H), a third of that
    for uniform noise. The invariances are those of adaptive noise; with normalised
    logits, a factor of the outputs changes nothing either. It may be negative.

    The authors' protocol measures 1024 samples of the training set without
    augmentation, with rho of 0.05 to 0.4 for Gaussian and 0.1 to 0.8 for uniform noise.

    Differences from the published code: it draws noise for each batch of 128 samples,
    which has the same mean. Here a draw is that of all samples, and of all measures
    with noise, so that differences between networks do not have its error.

    Args:
        rho: size of the noise, in units of the weights, or a share of each weight for
            adaptive noise: the standard deviation of Gaussian noise, half the width of
            uniform noise.
        noise: "gaussian", which belongs to the ball of p="2" of `worst_sharpness`, or
            "uniform", which belongs to that of p="inf".
        adaptive: measure displacements in units of each weight.
        logit_normalised: take the cross-entropy of normalised logits; see
            `steppe.LogitNormalised`.
        samples: number of draws M, at least 2.
    """

    bounds: ClassVar[Ranges] = {"rho": POSITIVE, "samples": at_least(2)}

    rho: float = 0.1
    noise: Distribution = "gaussian"
    adaptive: bool = True
    logit_normalised: bool = False
    samples: int = 100

    def needs(self) -> Sequence[Need[Any]]:
        """The loss in the middle."""
        return [] if self.logit_normalised else [LossTerms()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Draw, evaluate, average; the standard error is over the draws."""
        if not self.logit_normalised:
            return self._average(measurement)
        objective = with_normalised_logits(measurement.objective)
        if objective is measurement.objective:
            return self._average(measurement)
        # Another objective has needs of its own, whose work is this measure's.
        estimate = self._average(Measurement(objective, measurement.seed))
        measurement.objective.cost += objective.cost
        measurement.objective.checks += objective.checks
        return estimate

    def _average(self, measurement: Measurement) -> Estimate:
        base = measurement.objective.value_of(measurement.of(LossTerms())).value
        losses = perturbed_losses(
            measurement,
            self.samples,
            self.rho,
            "adaptive" if self.adaptive else "raw",
            self.noise,
        )
        return Estimate(
            value=float((losses - base).mean()),
            stderr=float(losses.std()) / self.samples**0.5,
            samples=self.samples,
            converged=bool(torch.isfinite(losses).all()),
            details={"base_loss": base},
        )
