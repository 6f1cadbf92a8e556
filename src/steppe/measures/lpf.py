"""Low-pass filtered loss (LPF): the mean loss under Gaussian noise on the weights.

Source: Bisla et al., 2022, arXiv:2201.08025, Equation 3. By default the noise is
relative to the norm of each filter, which stands for the balancing of the network that
the published code does first; "raw" is its plain isotropic noise.

Shape letters: M random draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from steppe.errors import check_choice
from steppe.linalg.probes import seeded
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.noise import filter_noise, gaussian_noise
from steppe.objective import Objective, check_objective
from steppe.parameters import restored
from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe.results import Cost, Estimate

NOISES = {"filter": filter_noise, "raw": gaussian_noise}


def smoothed_losses(
    objective: Objective,
    sigma: float,
    samples: int,
    scale: Literal["filter", "raw"],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Loss at the parameters, shape (), and at M points around them, shape (M,)."""
    params = objective.params
    with objective.measuring(), restored(params) as centre, torch.no_grad():
        base = objective.mean_loss()
        noise = NOISES[scale](centre, sigma, generator)
        around = []
        for _ in range(samples):
            # From the centre each time: returning by subtraction would add up rounding.
            noise.put_(params, centre)
            around.append(objective.mean_loss())
    objective.cost += Cost(forwards=samples + 1)
    return base.cpu(), torch.stack(around).cpu()


@MEASURES.add(
    "lpf",
    source="Bisla et al., 2022, arXiv:2201.08025, Equation 3",
    units="loss",
    invariant_to=("layer_rescaling",),
    cost="samples + 1 forward passes",
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
    scale: Literal["filter", "raw"] = "filter"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("scale", self.scale, tuple(NOISES))

    def __call__(
        self, objective: Objective, *, generator: torch.Generator | None = None
    ) -> Estimate:
        """Draw, evaluate, average; the standard error is over the draws."""
        check_objective(objective, type(self).__name__)
        before = objective.cost
        base, losses = smoothed_losses(
            objective, self.sigma, self.samples, self.scale, seeded(generator)
        )
        return Estimate(
            value=float(losses.mean()),
            stderr=float(losses.std()) / self.samples**0.5,
            samples=self.samples,
            converged=bool(torch.isfinite(losses).all()),
            cost=objective.cost - before,
            details=self.details(objective, base_loss=float(base)),
        )
