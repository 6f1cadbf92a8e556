"""Low-pass filtered SGD (LPF-SGD): step with the gradient of the smoothed loss.

Source: Bisla, Wang, Choromanska, 2022, arXiv:2201.08025, Algorithm 1, with the noise
of the authors' training scripts: independent for every entry, its standard deviation
`gamma` times the norm of the filter (row) it belongs to.

Differences from the authors' code: a short last batch is split into as many shares as
it has rows and every row weighs alike; weights come back bit for bit; the random state
is saved with the optimizer.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Unpack

from torch import Tensor
from torch.optim import Optimizer

from steppe.noise import Noise, filter_noise
from steppe.optimizers.families.noise import AbstractSmoothing
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import RandomOptions


@OPTIMIZERS.add(
    "lpf_sgd",
    source="Bisla et al., 2022, arXiv:2201.08025",
    grad_evals=1,
    limits=(
        Limit(settings={"gamma": 0.0}),
        Limit(settings={"gamma": 0.0, "micro_batches": 4}),
    ),
    example={"gamma": 0.002},
    later=("antithetic",),
)
class LPFSGD(AbstractSmoothing):
    """Step with the gradient of the loss averaged over Gaussian noise on the weights.

    Each of M micro-batches is evaluated at its own noisy weights, so a step costs one
    gradient whatever M is, provided each pass runs on its share of the batch::

        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            loss_fn(model(xs), ys).backward()
        opt.step()

    Args:
        base: the optimizer that takes the step; Adam makes this LPF-Adam.
        gamma: standard deviation of the noise over the norm of the filter, >= 0, or a
            schedule of it; the authors raise it along `CosineIncrease`.
        micro_batches: M, the number of noise draws and of shares per batch, >= 1.
        antithetic: draw n, -n, n', -n' and so on, which halves the numbers to be drawn
            and takes noise out of the mean gradient: what is linear in n cancels as far
            as the two shares of the batch agree. Each draw has its distribution still,
            but the two of a pair depend on each other. It needs two micro-batches or
            more; False, as the authors do it.
        options: seed, generator, model, batch_norm, rng, gate, perturb, sync, scaler,
            monitor: see `RandomOptions`; running statistics are those
            of all passes unless set otherwise, as in the authors' code.
    """

    bounds: ClassVar = {"gamma": (0.0, math.inf), **AbstractSmoothing.bounds}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        gamma: float | Schedule = 0.002,
        micro_batches: int = 1,
        antithetic: bool = False,
        **options: Unpack[RandomOptions],
    ) -> None:
        super().__init__(
            base,
            settings={"gamma": gamma},
            micro_batches=micro_batches,
            antithetic=antithetic,
            **options,
        )

    def noise(self, step: StepContext, params: list[Tensor]) -> Noise:
        """Gaussian noise in units of the filters."""
        return filter_noise(params, step.setting("gamma", params), self.generator)
