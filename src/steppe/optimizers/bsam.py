"""Bayesian SAM (bSAM): Adam-like SAM whose radius follows a posterior's precision.

Source: Moellenhoff, Khan, 2023, arXiv:2210.01620, the bSAM algorithm, in the order of
the authors' code: noise, ascent and step use the precision s of the step before, which
is renewed last.

Differences from the authors' code: the learning rate is that of the base; the first
gradient is of the whole batch, where the code may split it (m-sharpness, here several
processes); a parameter in a group with `perturb=False` is stepped with the same
recursion but stays where it is during the passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Unpack

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from steppe.errors import SettingError
from steppe.noise import gaussian_noise
from steppe.optimizers.families.gradients import aligned
from steppe.parameters import copy_
from steppe.registry.bounds import POSITIVE
from steppe.schedules import Schedule
from steppe.stepping.context import FULL_BATCH, Plan, StepContext
from steppe.stepping.driver import OPTIMIZERS, AbstractOptimizer
from steppe.stepping.options import RandomOptions
from steppe.vectors import joint_norm


@OPTIMIZERS.add(
    "bsam",
    source="Moellenhoff and Khan, 2023, arXiv:2210.01620",
    grad_evals=2,
    example={"rho": 0.05, "samples": 1000},
    base="plain",
)
class BSAM(AbstractOptimizer):
    """Step with SAM's gradient over a precision that is learned along with the weights.

    With the precision s and the mean gradient m, which are kept::

        g  = gradient at w + xi / sqrt(N s), xi standard normal
        g' = gradient at w + rho g / s
        m  = beta1 m + (1 - beta1) (g' + delta w)
        w  = w - lr m / s
        s  = beta2 s + (1 - beta2) (sqrt(s) |g| + damping + delta)

    The last gradient is m / s, and a plain `torch.optim.SGD` steps with it. N s is the
    inverse variance of a Gaussian posterior over the weights; its s is in
    `state_dict()` as "precision".

    Args:
        base: `torch.optim.SGD` without momentum and weight decay, for its learning
            rate and parameter groups; or several.
        samples: N, number of samples in the training data, >= 1.
        rho: scale of the ascent, >= 0, or a schedule of it.
        delta: strength of the prior delta N ||w||^2 / 2 per N samples, an L2 penalty,
            >= 0, or a schedule of it; the authors' weight decay.
        damping: added to s at every step in units of the gradient, >= 0, or a schedule.
        beta1: what remains of m from step to step, in [0, 1].
        beta2: what remains of s from step to step, in [0, 1].
        precision: s before the first step, > 0.
        options: seed, generator, model, batch_norm, rng, gate, perturb, sync, scaler,
            monitor: see `RandomOptions`; with a `GradScaler`, pass it.

    Raises:
        SettingError: a base that does more than w - lr p.grad.
    """

    bounds: ClassVar = {
        "rho": (0.0, math.inf),
        "delta": (0.0, math.inf),
        "damping": (0.0, math.inf),
        "samples": (1.0, math.inf),
        "beta1": (0.0, 1.0),
        "beta2": (0.0, 1.0),
        "precision": POSITIVE,
    }
    looks_first: ClassVar = False
    scale_free: ClassVar = False
    accumulates: ClassVar = False
    random: ClassVar = True

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        samples: int,
        rho: float | Schedule = 0.05,
        delta: float | Schedule = 1e-4,
        damping: float | Schedule = 0.1,
        beta1: float = 0.9,
        beta2: float = 0.999,
        precision: float = 1.0,
        **options: Unpack[RandomOptions],
    ) -> None:
        own = {"rho": rho, "delta": delta, "damping": damping}
        fixed = {
            "samples": samples,
            "beta1": beta1,
            "beta2": beta2,
            "precision": precision,
        }
        super().__init__(base, settings=own, fixed=fixed, **options)
        self.samples = samples
        self.beta1, self.beta2, self.precision = beta1, beta2, precision
        self._check_bases()

    def plan(self, step: StepContext) -> Plan:
        """Evaluate a draw of the posterior, take an ascent step, and precondition."""
        self._check_bases()
        params = step.perturbed()
        with step.held(params) as here:
            here.add(self._draw(step, params))
            yield FULL_BATCH
        first = step.gradients()
        norm = joint_norm(list(first.values()))
        step.require_finite(norm)
        params = [p for p in params if p in first]
        with step.held(params) as here:
            if norm.device.type != "cpu" or norm.isfinite():  # no host sync elsewhere
                here.add(self._ascent(step, params, [first[p] for p in params]))
            yield FULL_BATCH
        self._precondition(step, first)

    def _precondition(self, step: StepContext, first: Mapping[Tensor, Tensor]) -> None:
        """Leave m / s in `p.grad`, and remember the new m and s."""
        owners, noisy, uphill = aligned(step, first)
        precision = self._kept_precision(step, owners)
        renewed = self._renewed(step, owners, _real(noisy), precision)
        delta, uphill = step.setting("delta", owners), _real(uphill)
        torch._foreach_add_(uphill, torch._foreach_mul(_real(owners), delta))
        torch._foreach_mul_(uphill, 1 - self.beta1)
        mean = _real(step.method_state.get("mean", owners))
        mean = list(torch._foreach_mul(mean, self.beta1))
        torch._foreach_add_(mean, uphill)
        copy_(uphill, torch._foreach_div(mean, precision))
        step.method_state.stage("mean", owners, _as_given(mean, owners))
        step.method_state.stage("precision", owners, _as_given(renewed, owners))

    def _kept_precision(self, step: StepContext, params: list[Tensor]) -> list[Tensor]:
        """The precision of each parameter: its first value where none is remembered."""
        kept = step.method_state.get("precision", params)
        return [torch.where(s > 0, s, self.precision) for s in _real(kept)]

    def _draw(self, step: StepContext, params: list[Tensor]) -> list[Tensor]:
        """Noise with the variance 1 / (N s)."""
        noise = gaussian_noise(params, self.samples**-0.5, self.generator).draw()
        if noise:
            roots = torch._foreach_sqrt(self._kept_precision(step, params))
            torch._foreach_div_(noise, roots)
        return noise

    def _ascent(
        self, step: StepContext, params: list[Tensor], grads: list[Tensor]
    ) -> list[Tensor]:
        """The perturbation rho g / s."""
        if not params:
            return []
        deltas = torch._foreach_div(grads, self._kept_precision(step, params))
        torch._foreach_mul_(deltas, step.setting("rho", params))
        return list(deltas)

    def _renewed(
        self,
        step: StepContext,
        params: list[Tensor],
        grads: list[Tensor],
        precision: list[Tensor],
    ) -> list[Tensor]:
        """beta2 s + (1 - beta2) (sqrt(s) |g| + damping + delta)."""
        floors = zip(
            step.setting("damping", params),
            step.setting("delta", params),
            strict=True,
        )
        seen = torch._foreach_sqrt(precision)
        torch._foreach_mul_(seen, torch._foreach_abs(grads))
        torch._foreach_add_(seen, [sum(floor) for floor in floors])
        torch._foreach_mul_(seen, 1 - self.beta2)
        torch._foreach_add_(seen, torch._foreach_mul(precision, self.beta2))
        return list(seen)

    def _check_bases(self) -> None:
        for base in self.bases:
            plain = type(base) is SGD and not any(
                group["momentum"] or group["weight_decay"] or group["maximize"]
                for group in base.param_groups
            )
            if not plain:
                given = {
                    key: group.get(key)
                    for group in base.param_groups
                    for key in ("momentum", "weight_decay", "maximize")
                }
                raise SettingError(
                    "BSAM has a momentum and a weight decay of its own (beta1, delta); "
                    "make its base torch.optim.SGD(params, lr) with momentum=0, "
                    "weight_decay=0 and maximize=False, got "
                    f"{type(base).__name__} with {given}."
                )


def _real(tensors: list[Tensor]) -> list[Tensor]:
    """The same memory, with a complex entry, which only rests, as two real ones."""
    return [torch.view_as_real(t) if t.is_complex() else t for t in tensors]


def _as_given(tensors: list[Tensor], owners: list[Tensor]) -> list[Tensor]:
    """Complex again, where the parameters are."""
    pairs = zip(tensors, owners, strict=True)
    return [torch.view_as_complex(t) if p.is_complex() else t for t, p in pairs]
