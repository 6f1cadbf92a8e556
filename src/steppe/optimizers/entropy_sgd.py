"""Entropy-SGD: step towards the centre of a walk around the weights.

Source: Chaudhari, Choromanska, Soatto, LeCun, Baldassi, Borgs, Chayes, Sagun, Zecchina,
2017, arXiv:1611.01838, Algorithm 1, with the momentum of the authors' code.

As in the published codes, alpha weighs the old mean, and the noise of an inner step is
noise * sqrt(2 inner_lr). Differences from them: the last pass of the authors' code,
whose gradient goes unused, is left out; the noise never enters the inner momentum;
scoping counts the steps; all parameter groups walk; weights come back bit for bit. The
published codes are these settings, the weight decay of the outer step being the base's:

- the authors' (PyTorch): inner_steps=20, inner_momentum=0.9, nesterov=True,
  scale_outer_by_gamma=False, momentum_includes_coupling=False, inner_weight_decay that
  of the base, gamma constant (its scoping is written, but its clock never runs).
- that of LPF-SGD's comparisons (arXiv:2201.08025): inner_steps=5, inner_momentum=0.9,
  nesterov=False, inner_weight_decay=1e-4, gamma=Scoping(0.5, 1e-4, 2.38), each inner
  step on a fresh batch.
- theirs with Adam ("E-Adam"): the same with a base of Adam, gamma=0.5 constant,
  scale_outer_by_gamma=False, and the base's learning rate times 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim import Optimizer

from steppe.noise import gaussian_noise
from steppe.optimizers.families.gradients import add_
from steppe.registry.bounds import at_least
from steppe.registry.specs import Limit
from steppe.schedules import Schedule
from steppe.stepping.context import (
    FINAL_GRADIENT,
    GradientRequest,
    MovedParameters,
    Plan,
    StepContext,
)
from steppe.stepping.driver import OPTIMIZERS, AbstractOptimizer
from steppe.stepping.options import RandomOptions
from steppe.stepping.wrapper import check_minimizes
from steppe.vectors import joint_norm


@OPTIMIZERS.add(
    "entropy_sgd",
    source="Chaudhari et al., 2017, arXiv:1611.01838",
    grad_evals=1,
    limits=(Limit(settings={"inner_steps": 0}),),
    separate_passes="inner_steps",
    later=("fresh_batches",),
    example={"inner_lr": 0.1},
)
class EntropySGD(AbstractOptimizer):
    """Step with the gradient of the local entropy: w minus the mean of a walk from w.

    L steps of Langevin dynamics start at x = mu = w. Each takes a gradient g at x, on
    samples of its own, and with the displacement d, momentum left out::

        d  = g + inner_weight_decay x + gamma (x - w)
        x  = x - inner_lr d + noise sqrt(2 inner_lr) xi, xi standard normal
        mu = alpha mu + (1 - alpha) x

    The base then steps with gamma (w - mu). Either the passes share one batch, so that
    a step costs one gradient whatever L is::

        for _ in opt.passes():
            xs, ys = opt.take(x, y)
            loss_fn(model(xs), ys).backward()
        opt.step()

    or, as published, each fetches a batch, so that a step costs L of them::

        for _ in opt.passes():
            x, y = next(batches)
            loss_fn(model(x), y).backward()
        opt.step()

    A parameter in a group with `perturb=False` does not walk; the base steps with its
    mean gradient over the passes.

    Args:
        base: the optimizer that takes the step; Adam makes this E-Adam.
        inner_steps: L >= 0, steps of the walk; 0 gives back the base.
        gamma: strength of the pull towards w, in inverse units of inner_lr, >= 0, or a
            schedule of it, such as `steppe.schedules.Scoping`.
        inner_lr: learning rate of the walk, >= 0, or a schedule of it.
        noise: standard deviation of the noise, in the units of the parameters over
            sqrt(2 inner_lr), >= 0, or a schedule of it.
        alpha: weight of the old mean of the walk, in [0, 1].
        inner_momentum: of the walk, in [0, 1]; starts from zero in each step.
        nesterov: whether that momentum is Nesterov's.
        inner_weight_decay: in the walk, >= 0, or a schedule of it; comes on top of that
            of the base.
        scale_outer_by_gamma: whether the base steps with gamma (w - mu), as in the
            paper, or with w - mu.
        momentum_includes_coupling: whether the pull gamma (x - w) enters the inner
            momentum, or is added to it afterwards.
        fresh_batches: whether a loop that feeds whole steps, such as that of `steppe
            train`, gives every inner step a batch of its own. A step then takes
            `batches_per_step` batches, and epochs are still passes over the data; a
            loop of your own decides by what it feeds.
        options: seed, generator, model, batch_norm, rng, gate, perturb, sync, scaler,
            monitor: see `RandomOptions`; with a `GradScaler`, pass it.
            Running statistics are those of all passes unless set otherwise.
    """

    bounds: ClassVar = {
        "inner_lr": (0.0, math.inf),
        "gamma": (0.0, math.inf),
        "noise": (0.0, math.inf),
        "inner_weight_decay": (0.0, math.inf),
        "inner_steps": at_least(0),
        "alpha": (0.0, 1.0),
        "inner_momentum": (0.0, 1.0),
    }
    running_statistics: ClassVar = "all"
    looks_first: ClassVar = False  # the first pass sees a share of the batch
    scale_free: ClassVar = False
    accumulates: ClassVar = False
    random: ClassVar = True

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        inner_steps: int = 5,
        gamma: float | Schedule = 0.5,
        inner_lr: float | Schedule = 0.1,
        noise: float | Schedule = 1e-4,
        alpha: float = 0.75,
        inner_momentum: float = 0.9,
        nesterov: bool = False,
        inner_weight_decay: float | Schedule = 0.0,
        scale_outer_by_gamma: bool = True,
        momentum_includes_coupling: bool = True,
        fresh_batches: bool = False,
        **options: Unpack[RandomOptions],
    ) -> None:
        settings = {
            "inner_lr": inner_lr,
            "gamma": gamma,
            "noise": noise,
            "inner_weight_decay": inner_weight_decay,
        }
        fixed = {
            "inner_steps": inner_steps,
            "alpha": alpha,
            "inner_momentum": inner_momentum,
        }
        super().__init__(base, settings=settings, fixed=fixed, **options)
        check_minimizes(self)
        self.inner_steps = inner_steps
        self.alpha = alpha
        self.inner_momentum, self.nesterov = inner_momentum, nesterov
        self.scale_outer_by_gamma = scale_outer_by_gamma
        self.momentum_includes_coupling = momentum_includes_coupling
        self.batches_per_step = max(inner_steps, 1) if fresh_batches else 1

    def plan(self, step: StepContext) -> Plan:
        """Walk, and point from the mean of the walk to the weights."""
        if self.inner_steps == 0:
            yield FINAL_GRADIENT
            return
        with step.held(step.perturbed()) as here:
            walk = _Walk(here)
            for part in range(self.inner_steps):
                yield GradientRequest(part, self.inner_steps, separate=True)
                self._move(step, walk)
        for p, total in walk.resting.items():
            p.grad = total.div_(self.inner_steps)
        walked = list(walk.means)
        if not walked:
            return
        outward = torch._foreach_sub(walked, list(walk.means.values()))
        if self.scale_outer_by_gamma:
            torch._foreach_mul_(outward, step.setting("gamma", walked))
        for p, direction in zip(walked, outward, strict=True):
            p.grad = direction

    def _move(self, step: StepContext, walk: _Walk) -> None:
        """One inner step, from the gradients in `p.grad`, which it destroys."""
        params, grads = step.with_grad()
        walk.rest(step.gradients())
        if not params:
            return
        norm = joint_norm(grads)
        step.require_finite(norm)
        if norm.device.type == "cpu" and not norm.isfinite():
            walk.mean(params)  # stay; elsewhere this look would be a host sync
            return
        inner_lr = step.setting("inner_lr", params)
        noise = step.setting("noise", params)
        decay = step.setting("inner_weight_decay", params)
        pull = torch._foreach_sub(params, walk.starts(params))
        torch._foreach_mul_(pull, step.setting("gamma", params))
        if any(decay):
            torch._foreach_add_(grads, torch._foreach_mul(params, decay))
        if self.momentum_includes_coupling:
            torch._foreach_add_(grads, pull)
        ahead = grads
        if self.inner_momentum:
            ahead = self._with_momentum(grads, walk.velocities(params))
        if not self.momentum_includes_coupling:
            ahead = list(torch._foreach_add(ahead, pull))
        del pull
        add_(params, ahead, [-lr for lr in inner_lr])
        if any(noise):
            deviations = [
                size * math.sqrt(2 * lr)
                for size, lr in zip(noise, inner_lr, strict=True)
            ]
            gaussian_noise(params, deviations, self.generator).put_(params, params)
        torch._foreach_lerp_(walk.mean(params), params, 1 - self.alpha)

    def _with_momentum(
        self, grads: list[Tensor], velocities: list[Tensor]
    ) -> list[Tensor]:
        """Directions with momentum; renews the velocities and may destroy gradients."""
        torch._foreach_mul_(velocities, self.inner_momentum)
        torch._foreach_add_(velocities, grads)
        if not self.nesterov:
            return velocities
        torch._foreach_add_(grads, velocities, alpha=self.inner_momentum)
        return grads


@dataclass
class _Walk:
    """Where the walkers of one step are, by parameter."""

    here: MovedParameters
    means: dict[Tensor, Tensor] = field(default_factory=dict)
    resting: dict[Tensor, Tensor] = field(default_factory=dict)  # sums of gradients
    _velocities: dict[Tensor, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        pairs = zip(self.here.params, self.here.saved, strict=True)
        self._starts = dict(pairs)

    def starts(self, params: list[Tensor]) -> list[Tensor]:
        """The weights that the walk began at."""
        return [self._starts[p] for p in params]

    def mean(self, params: list[Tensor]) -> list[Tensor]:
        """Means of the walk so far; the start, where there was no gradient before."""
        for p in params:
            if p not in self.means:
                self.means[p] = self._starts[p].clone()
        return [self.means[p] for p in params]

    def velocities(self, params: list[Tensor]) -> list[Tensor]:
        """Inner momentum; zero, where there was no gradient before."""
        for p in params:
            if p not in self._velocities:
                self._velocities[p] = torch.zeros_like(p)
        return [self._velocities[p] for p in params]

    def rest(self, grads: dict[Tensor, Tensor]) -> None:
        """Sum the gradients of parameters that do not walk."""
        for p, grad in grads.items():
            if p in self._starts:
                continue
            if p in self.resting:
                self.resting[p].add_(grad)
            else:
                self.resting[p] = grad
