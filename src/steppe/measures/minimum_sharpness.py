"""Minimum sharpness: the trace of the Hessian at the flattest rescaling.

Source: Ibayashi, Hamaguchi and Imaizumi, 2021, arXiv:2106.12612; here with the exact
minimum (`steppe.curvature.minimum_sharpness`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import torch

from steppe.curvature.minimum_sharpness import minimum_sharpness
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.objective import Objective
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate


@MEASURES.add(
    "minimum_sharpness",
    source="Ibayashi, Hamaguchi and Imaizumi, 2021, arXiv:2106.12612",
    units="loss per squared parameter",
    invariant_to=("layer_rescaling", "unit_permutation"),
    cost="a backward pass for each output of the network, and about two gradients",
    networks="homogeneous",
)
@dataclass(frozen=True, kw_only=True)
class MinimumSharpness(AbstractMeasure):
    """Smallest trace of the Hessian among rescalings of the layers of a ReLU network.

    Args:
        biases: count the traces by biases, too.
        samples: draws in place of one backward pass for each output of the network,
            worth it for more than about 100; 0 for the exact traces.
    """

    bounds: ClassVar[Ranges] = {"samples": at_least(0)}

    biases: bool = True
    samples: int = 0

    def __call__(
        self, objective: Objective, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Find the traces layer by layer, and their exact minimum."""
        estimate = minimum_sharpness(
            objective,
            biases=self.biases,
            samples=self.samples or None,
            generator=generator,
        )
        return dataclasses.replace(
            estimate, details={**estimate.details, **self.details(objective)}
        )
