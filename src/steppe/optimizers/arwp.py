"""Adaptive random weight perturbation (ARWP): RWP with less noise where it is steep.

Source: Li et al., 2024, arXiv:2404.00357: the noise of a filter is divided by
sqrt(1 + eta F), F a decaying sum of its squared gradients.

Differences from the authors' code: as for `rwp`; F is summed over the rows of a matrix
or kernel at once, which is all that its noise depends on. It is 0 in the first step. As
there, F is that of the gradients at noisy weights, and every entry of a vector has its
own, although its noise is scaled by the norm of the whole vector.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar, Literal, Unpack

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.noise import GaussianNoise, Noise, filter_scales
from steppe.optimizers.families.noise import AbstractMixture
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import RandomOptions


def row_sums(grads: Sequence[Tensor]) -> list[Tensor]:
    """Sum of the squares in each row of a matrix or kernel; the squares of a vector.

    Args:
        grads: P tensors.

    Returns:
        P tensors that broadcast against `grads`: (rows, 1, ...) for more than one
        dimension.
    """
    return [
        torch.linalg.vector_norm(g, dim=tuple(range(1, g.dim())), keepdim=True).square()
        if g.dim() > 1
        else g.square()
        for g in grads
    ]


def first_of_rows(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The first entry of each row, for tensors whose rows repeat one number."""
    return [t[(slice(None), *[slice(1)] * (t.dim() - 1))[: t.dim()]] for t in tensors]


@OPTIMIZERS.add(
    "arwp",
    source="Li et al., 2024, arXiv:2404.00357",
    grad_evals=1,
    limits=(
        Limit(settings={"mix": 0.0}),
        Limit(settings={"eta": 0.0}, equals="rwp:sigma=0.01"),
        Limit(settings={"eta": 0.0, "mix": 1.0}, equals="rwp:sigma=0.01,mix=1.0"),
    ),
    example={"sigma": 0.01},
)
class ARWP(AbstractMixture):
    """Step with a mean of two gradients, one at noise that avoids steep filters.

    As `RWP`, with the noise of every filter divided by sqrt(1 + eta F), where
    F = beta F + g^2, summed over the filter, with the gradient g at the noisy weights.
    With several loops per step F learns from each of them.

    Args:
        base: the optimizer that takes the step, or several.
        sigma: standard deviation of the noise over the norm of the filter where F = 0,
            >= 0, or a schedule of it.
        mix: lambda of the paper, the share of the gradient at the noisy weights, in
            [0, 1], or a schedule of it. 0 gives back the base.
        eta: how much F damps the noise, in inverse squared units of the gradient,
            >= 0, or a schedule of it. 0 gives back `RWP`.
        beta: what remains of F from step to step, in [0, 1].
        batches: "halves" of the batch for the two gradients, or "whole".
        options: seed, generator, model, batch_norm, rng, gate, perturb, sync, scaler,
            monitor: see `RandomOptions`.
    """

    bounds: ClassVar = {
        **AbstractMixture.bounds,
        "eta": (0.0, math.inf),
        "beta": (0.0, 1.0),
    }
    scale_free: ClassVar = False

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        sigma: float | Schedule = 0.01,
        mix: float | Schedule = 0.5,
        eta: float | Schedule = 1.0,
        beta: float = 0.9,
        batches: Literal["halves", "whole"] = "halves",
        **options: Unpack[RandomOptions],
    ) -> None:
        super().__init__(
            base,
            sigma=sigma,
            mix=mix,
            batches=batches,
            settings={"eta": eta},
            fixed={"beta": beta},
            **options,
        )
        self.beta = beta

    def noise(self, step: StepContext, params: list[Tensor]) -> Noise:
        """Gaussian noise in units of the filters, divided by sqrt(1 + eta F)."""
        stds = filter_scales(params)
        if stds:
            torch._foreach_mul_(stds, step.setting("sigma", params))
            fisher = first_of_rows(step.method_state.get("fisher", params))
            eta = step.setting("eta", params)
            damping = torch._foreach_add(torch._foreach_mul(fisher, eta), 1.0)
            torch._foreach_sqrt_(damping)
            stds = list(torch._foreach_div(stds, damping))
        return GaussianNoise(params=params, generator=self.generator, scales=[*stds])

    def learn(self, step: StepContext) -> None:
        """Let F forget a little and add the squares of the present gradient."""
        params, grads = step.with_grad()
        if not params:
            return
        sums = row_sums(grads)
        fisher = first_of_rows(step.method_state.get("fisher", params))
        torch._foreach_add_(sums, torch._foreach_mul(fisher, self.beta))
        # Views in the shape of the parameters, each with one number per filter.
        views = [s.expand_as(p) for s, p in zip(sums, params, strict=True)]
        step.method_state.stage("fisher", params, views)
