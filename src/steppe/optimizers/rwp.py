"""Random weight perturbation (RWP): mix the gradient with one at noisy weights.

Source: Li et al., 2022, arXiv:2211.11489, and Li et al., 2024, arXiv:2404.00357: the
mixed objective, with the filter-scaled noise of LPF-SGD.

Differences from the authors' code: the two gradients come from the two halves of one
batch, so a step costs one gradient, where the code takes two batches per step and
doubles the epochs; a part that weighs nothing is not evaluated; weights come back bit
for bit, in all processes alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Unpack

from torch import Tensor
from torch.optim import Optimizer

from steppe.noise import Noise, filter_noise
from steppe.optimizers.families.noise import AbstractMixture
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import StepContext
from steppe.stepping.driver import OPTIMIZERS
from steppe.stepping.options import RandomOptions


@OPTIMIZERS.add(
    "rwp",
    source="Li et al., 2022, arXiv:2211.11489",
    grad_evals=1,
    limits=(
        Limit(settings={"mix": 0.0}),
        Limit(settings={"mix": 1.0}, equals="lpf_sgd:gamma=0.01"),
    ),
    example={"sigma": 0.01},
)
class RWP(AbstractMixture):
    """Step with the mean of the gradient and one at weights with Gaussian noise.

    With the two halves B1 and B2 of a batch the gradient is
    (1 - mix) g(B1; w) + mix g(B2; w + n), where n is Gaussian, its deviation sigma
    times the norm of the filter. A step costs one gradient if each pass runs on its
    half, and two on whole batches::

        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            loss_fn(model(xs), ys).backward()
        opt.step()

    A mix of 0 gives back the base on the whole batch; so does, with two equal halves, a
    sigma of 0, to rounding. A mix of 1 evaluates the whole batch at noisy weights, once
    ("RWP single", LPF-SGD with one share).

    Args:
        base: the optimizer that takes the step, or several.
        sigma: standard deviation of the noise over the norm of the filter, >= 0, or a
            schedule of it.
        mix: lambda of the paper, the share of the gradient at the noisy weights, in
            [0, 1], or a schedule of it.
        batches: "halves", or "whole" to take both gradients on the whole batch.
        options: seed, generator, model, batch_norm, rng, gate, perturb, sync, scaler,
            monitor: see `RandomOptions`.
    """

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        sigma: float | Schedule = 0.01,
        mix: float | Schedule = 0.5,
        batches: Literal["halves", "whole"] = "halves",
        **options: Unpack[RandomOptions],
    ) -> None:
        super().__init__(base, sigma=sigma, mix=mix, batches=batches, **options)

    def noise(self, step: StepContext, params: list[Tensor]) -> Noise:
        """Gaussian noise in units of the filters."""
        return filter_noise(params, step.setting("sigma", params), self.generator)

    def learn(self, step: StepContext) -> None:
        """Nothing: the noise does not depend on earlier gradients."""
