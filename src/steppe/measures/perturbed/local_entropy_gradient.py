"""Norm of the gradient of the local entropy, by Langevin dynamics.

Source: Chaudhari et al., 2017, arXiv:1611.01838, gradient of the local entropy in
Entropy-SGD; the published estimate is that of Bisla et al., 2022, arXiv:2201.08025. The
chains are those of Leimkuhler and Matthews, 2013, doi:10.1093/amrx/abs010, whose steps
average two successive draws, so that a Gaussian has the right variance at every step
size.

Shape letters: M pairs of chains.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.noise import gaussian_noise
from steppe.objective import Objective
from steppe.parameters import displace_, flatten, overwrite_, restored
from steppe.registry.bounds import POSITIVE, Range, Ranges, at_least
from steppe.results import Estimate
from steppe.vectors import joint_norm

WARM = 0.5  # share of the steps that are left out of means
# Of the published estimate: steps, their size, noise, pull, and memory of the mean
STEPS, LR, NOISE, PULL, MEMORY = 20, 0.1, 1e-4, 1e-4, 0.75


@MEASURES.add(
    "local_entropy_gradient",
    source="Chaudhari et al., 2017, arXiv:1611.01838, Entropy-SGD",
    units="loss per parameter",
    invariant_to=("unit_permutation",),
    needs=(),
    cost=Cost(gradients=160),
    cost_note="2 * pairs * steps",
)
@dataclass(frozen=True, kw_only=True)
class LocalEntropyGradient(AbstractMeasure):
    """Norm of the gradient of the local entropy: gamma |w - E w'|.

    w' has the density exp(-L(w') - gamma/2 |w - w'|^2), up to a factor. Chains run in
    pairs with opposite noise, whose mean has none where the loss is quadratic; there
    the value is gamma |H (H + gamma)^-1 w|, and 0 at a minimum. The squared norm is the
    mean of products of different pairs, so that noise that remains adds nothing to it,
    and its error is a jackknife over the pairs.

    The variant "published" differs in eight ways: there is no factor gamma; each batch
    of the data has a chain of its own, whose norms are averaged; the noise of a step
    has the deviation 1e-4 sqrt(2 lr), not sqrt(2 lr); gamma is 1e-4, as the exponent
    that lets it grow never advances; 20 steps of size 0.1 are far from equilibrium; the
    mean over them forgets by 0.75 per step, and starts at w; all steps count; and
    chains are not paired, so that at a minimum the value is that of the noise. The
    gradient before the chain, which is not used, is left out. The settings of the
    chains do not apply to it.

    Args:
        gamma: inverse variance of the Gaussian, per squared unit of the parameters.
        steps: of a chain, at least 4; the first half is left out of means. In
            directions without curvature a share (1 - step_size)^(steps / 2) of the
            start remains after it, in directions of curvature h one of
            |1 - step_size (1 + h / gamma)|^(steps / 2).
        pairs: number of pairs M, at least 3; each keeps as many numbers as there are
            parameters.
        step_size: of a step, times 1 / gamma, below 2; chains need it below
            2 gamma / (gamma + h) for the largest curvature h.
        variant: "correct" or "published".
    """

    bounds: ClassVar[Ranges] = {
        "gamma": POSITIVE,
        "steps": at_least(4),
        "pairs": at_least(3),
        "step_size": Range(0.0, 2.0, above=True, below=True),
    }

    gamma: float = 100.0
    steps: int = 20
    pairs: int = 4
    step_size: float = 0.5
    variant: Variant = "correct"

    def needs(self) -> Sequence[Need[Any]]:
        """None: no other measure runs these chains."""
        return []

    def estimate(self, measurement: Measurement) -> Estimate:
        """Run the chains."""
        if self.variant == "published":
            return _published(measurement)
        gradients = []
        for number in range(self.pairs):
            ends = [self._mean(measurement, number, sign) for sign in (1.0, -1.0)]
            gradients.append(self.gamma * (ends[0] + ends[1]) / 2)
        squared, error = _squared_norm(torch.stack(gradients))
        value = math.sqrt(max(squared, 0.0))
        # The error of a root, which near 0 is that of the root of an error.
        root = value + math.sqrt(value**2 + error)
        return Estimate(
            value=value,
            stderr=error / root if root else 0.0,
            samples=self.pairs,
            converged=math.isfinite(squared),
            details={"squared": squared, "squared_stderr": error},
        )

    def _mean(self, measurement: Measurement, number: int, sign: float) -> Tensor:
        """Mean of w - w' along a chain, shape (d,)."""
        objective = measurement.objective
        params = objective.params
        source = measurement.stream("local_entropy_gradient", number)
        size = self.step_size / self.gamma
        noise = gaussian_noise(params, sign * math.sqrt(size / 2), source)
        warm = int(WARM * self.steps)
        with objective.measuring(), restored(params) as centre, torch.no_grad():
            total = [torch.zeros_like(p) for p in params]
            before = noise.draw()
            for step in range(self.steps):
                gradient = objective.gradient_here()
                _check_finite(gradient, step, self.step_size)
                pull = torch._foreach_sub(params, centre)
                torch._foreach_add_(gradient, pull, alpha=self.gamma)
                after = noise.draw()
                torch._foreach_add_(before, after)
                torch._foreach_add_(before, gradient, alpha=-size)
                displace_(params, before)
                before = after
                if step >= warm:
                    torch._foreach_add_(total, torch._foreach_sub(centre, params))
        torch._foreach_div_(total, float(self.steps - warm))
        return flatten(total).double()


def _squared_norm(vectors: Tensor) -> tuple[float, float]:
    """Squared norm of the mean of drawn vectors, shape (M, d), and its error.

    The mean over products of different ones has no bias; the error is that of the
    jackknife.
    """
    gram = (vectors @ vectors.T).cpu()
    count = len(gram)
    products = gram - torch.diag(gram.diagonal())
    whole = float(products.sum()) / (count * (count - 1))
    left = (products.sum() - 2 * products.sum(1)) / ((count - 1) * (count - 2))
    error = math.sqrt((count - 1) / count * float((left - left.mean()).square().sum()))
    return whole, error


def _check_finite(gradient: list[Tensor], step: int, size: float) -> None:
    if all(bool(torch.isfinite(g).all()) for g in gradient):
        return
    raise UsageError(
        f"a Langevin chain diverged at step {step}: step_size must be below 2 gamma / "
        f"(gamma + h) for the largest curvature h of the loss, got {size:g}; give a "
        "smaller step_size or a larger gamma."
    )


def _published(measurement: Measurement) -> Estimate:
    """Mean over the batches of the norm of w minus a mean along a chain."""
    objective = measurement.objective
    norms = [
        _published_norm(objective, index, measurement.stream("published chain", index))
        for index in range(len(objective.batches))
    ]
    objective.cost += Cost(gradients=STEPS)
    drawn = torch.stack(norms).double()
    several = len(drawn) > 1
    stderr = float(drawn.std()) / math.sqrt(len(drawn)) if several else math.inf
    return Estimate(
        value=float(drawn.mean()),
        stderr=stderr,
        samples=len(drawn),
        converged=bool(torch.isfinite(drawn).all()),
        details={"gamma": PULL, "steps": STEPS, "pairs": 0, "step_size": LR},
    )


def _published_norm(
    objective: Objective, index: int, source: torch.Generator
) -> Tensor:
    params = objective.params
    noise = gaussian_noise(params, NOISE * math.sqrt(2 * LR), source)
    with objective.measuring(), restored(params) as centre:
        mean = [c.clone() for c in centre]
        for _ in range(STEPS):
            with torch.enable_grad():
                loss = objective.batch_losses(index).mean()
                gradient = torch.autograd.grad(loss, params, materialize_grads=True)
            with torch.no_grad():
                pull = torch._foreach_sub(params, centre)
                step = torch._foreach_add(gradient, pull, alpha=PULL)
                torch._foreach_mul_(step, -LR)
                torch._foreach_add_(step, noise.draw())
                overwrite_(params, torch._foreach_add(params, step))
                torch._foreach_lerp_(mean, list(params), 1 - MEMORY)
        with torch.no_grad():
            return joint_norm([*torch._foreach_sub(centre, mean)]).cpu()
