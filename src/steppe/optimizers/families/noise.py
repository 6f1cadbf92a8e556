"""Methods that take gradients at randomly perturbed weights."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal, Unpack

from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import SettingError, check_choice, check_switch
from steppe.noise import Noise
from steppe.optimizers.families.gradients import aligned, mix_
from steppe.registry.bounds import Ranges, at_least
from steppe.schedules import Schedule
from steppe.stepping.context import (
    FINAL_GRADIENT,
    FULL_BATCH,
    GradientRequest,
    Plan,
    StepContext,
)
from steppe.stepping.driver import AbstractOptimizer
from steppe.stepping.options import RandomOptions


class AbstractSmoothing(AbstractOptimizer):
    """A method that evaluates each of M shares of the batch at noise of its own.

    Args:
        base: the optimizer that takes the step, or several.
        settings: of the method.
        micro_batches: M, the number of noise draws and of shares per batch, >= 1.
        antithetic: whether every second draw is the one before it, negated; needs M
            of 2 or more.
        options: seed, generator, model, batch_norm, rng, gate, perturb, sync, scaler,
            monitor: see `RandomOptions`.
    """

    bounds: ClassVar[Ranges] = {"micro_batches": at_least(1)}
    running_statistics: ClassVar = "all"
    looks_first: ClassVar = False
    random: ClassVar = True

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        settings: Mapping[str, float | Schedule],
        micro_batches: int,
        antithetic: bool,
        **options: Unpack[RandomOptions],
    ) -> None:
        fixed = {"micro_batches": micro_batches}
        super().__init__(base, settings=settings, fixed=fixed, **options)
        check_switch("antithetic", antithetic)
        if antithetic and micro_batches == 1:
            raise SettingError(
                "antithetic draws come in pairs, got antithetic=True and "
                "micro_batches=1; raise micro_batches to 2 or more, or leave "
                "antithetic out."
            )
        self.micro_batches, self.antithetic = micro_batches, antithetic

    @abstractmethod
    def noise(self, step: StepContext, params: list[Tensor]) -> Noise:
        """The displacements of P unmoved parameters, to be drawn M times."""

    def plan(self, step: StepContext) -> Plan:
        """Evaluate every share of the batch at weights with noise of its own."""
        params = step.perturbed()
        noise = self.noise(step, params)
        with step.held(params) as here:
            for part in range(self.micro_batches):
                if self.antithetic and part % 2:
                    here.mirror()
                else:
                    here.put(noise)
                yield GradientRequest(
                    part, self.micro_batches, final=self.micro_batches == 1
                )


class AbstractMixture(AbstractOptimizer):
    """A method that mixes the gradient with one at noisy weights.

    The gradient is (1 - mix) g(B1; w) + mix g(B2; w + n).

    Args:
        base: the optimizer that takes the step, or several.
        sigma: scale of the noise, or a schedule of it.
        mix: share of the second gradient, in [0, 1], or a schedule of it.
        batches: "halves" makes B1 and B2 two shares of the batch, "whole" makes both
            the whole batch.
        settings: of the method beside these.
        fixed: its numbers that are the same for all groups and steps.
        options: seed, generator, model, batch_norm, rng, gate, perturb, sync, scaler,
            monitor: see `RandomOptions`.
    """

    bounds: ClassVar[Ranges] = {"sigma": (0.0, math.inf), "mix": (0.0, 1.0)}
    looks_first: ClassVar = False  # the first pass may see half of the batch
    random: ClassVar = True

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        sigma: float | Schedule,
        mix: float | Schedule,
        batches: Literal["halves", "whole"],
        settings: Mapping[str, float | Schedule] | None = None,
        fixed: Mapping[str, float] | None = None,
        **options: Unpack[RandomOptions],
    ) -> None:
        check_choice("batches", batches, ("halves", "whole"))
        own = {"sigma": sigma, "mix": mix, **(settings or {})}
        super().__init__(base, settings=own, fixed=fixed, **options)
        self.batches = batches

    @abstractmethod
    def noise(self, step: StepContext, params: list[Tensor]) -> Noise:
        """The perturbation of P unmoved parameters, to be drawn once."""

    @abstractmethod
    def learn(self, step: StepContext) -> None:
        """Take note of the gradient at the noisy weights, in `p.grad`."""

    def plan(self, step: StepContext) -> Plan:
        """Evaluate at the weights and at noisy ones; leave out terms of weight zero."""
        params = step.perturbed()
        mix = step.setting("mix", params)
        if not any(mix):
            yield FINAL_GRADIENT
            return
        noisy_only = all(share == 1 for share in mix)
        halves = self.batches == "halves"
        if not noisy_only:
            yield GradientRequest(0, 2, separate=True) if halves else FULL_BATCH
        first = {} if noisy_only else step.gradients()
        with step.held(params) as here:
            here.put(self.noise(step, params))
            if noisy_only:
                yield FINAL_GRADIENT
            else:
                yield GradientRequest(1, 2, separate=True) if halves else FULL_BATCH
        self.learn(step)
        if not noisy_only:
            owners, clean, noisy = aligned(step, first)
            mix_(noisy, clean, [1 - share for share in step.setting("mix", owners)])
