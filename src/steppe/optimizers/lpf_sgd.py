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
from typing import ClassVar, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from steppe.errors import SettingError
from steppe.perturb import filter_noise
from steppe.registry import Limit
from steppe.schedules import Schedule
from steppe.stepping import OPTIMIZERS, AbstractOptimizer
from steppe.weights import Plan, Request, Weights


@OPTIMIZERS.add(
    "lpf_sgd",
    source="Bisla et al., 2022, arXiv:2201.08025",
    grad_evals=1,
    limits=(
        Limit(settings={"gamma": 0.0}),
        Limit(settings={"gamma": 0.0, "micro_batches": 4}),
    ),
    example={"gamma": 0.002},
    random=True,
)
class LPFSGD(AbstractOptimizer):
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
        seed: of the noise, when no `generator` is given.
        generator: source of the noise, on the device of the parameters.
        model: switches on the policy for running statistics.
        batch_norm: "all" keeps the statistics of all passes, as the authors' code;
            "first" only those of the first share.
        rng: "fresh" or "replay", the dropout masks of the passes.
    """

    bounds: ClassVar = {"gamma": (0.0, math.inf)}
    running_statistics: ClassVar = "all"

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        gamma: float | Schedule = 0.002,
        micro_batches: int = 1,
        seed: int = 0,
        generator: torch.Generator | None = None,
        model: nn.Module | None = None,
        batch_norm: Literal["first", "all"] | None = None,
        rng: Literal["fresh", "replay"] = "fresh",
    ) -> None:
        if micro_batches < 1:
            raise SettingError(f"micro_batches must be >= 1, got {micro_batches}.")
        super().__init__(
            base,
            settings={"gamma": gamma},
            model=model,
            batch_norm=batch_norm,
            rng=rng,
            generator=generator,
        )
        self.micro_batches = micro_batches
        if generator is None:
            params = (p for group in self.param_groups for p in group["params"])
            device = next(params).device
            self.generator = torch.Generator(device).manual_seed(seed)

    def plan(self, weights: Weights) -> Plan:
        """Evaluate every share of the batch at weights with noise of its own."""
        for part in range(self.micro_batches):
            params = weights.perturbed()
            noise = filter_noise(
                params, weights.setting("gamma", params), self.generator
            )
            with weights.moved(params, noise):
                yield Request(part, self.micro_batches)
