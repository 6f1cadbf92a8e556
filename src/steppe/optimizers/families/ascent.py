"""Methods with an ascent step before the gradient that they descend with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar, Unpack

from torch import Tensor
from torch.optim import Optimizer

from steppe.errors import SettingError, brief
from steppe.geometry import L2, Geometry
from steppe.registry.bounds import Ranges
from steppe.schedules import Schedule
from steppe.stepping.context import MovedParameters, StepContext
from steppe.stepping.driver import AbstractOptimizer
from steppe.stepping.options import RandomOptions
from steppe.stepping.wrapper import check_minimizes


class AbstractAscent(AbstractOptimizer):
    """A method that takes an ascent step of radius rho in some geometry.

    Args:
        base: the optimizer that takes the step, or several that share one norm.
        rho: radius, or a schedule of it.
        geometry: of the ascent step; None for `L2`.
        settings: of the method beside rho.
        fixed: its numbers that are the same for all groups and steps.
        options: see `OptimizerOptions`.

    Raises:
        SettingError: a base with maximize=True.
    """

    bounds: ClassVar[Ranges] = {"rho": (0.0, math.inf)}

    def __init__(
        self,
        base: Optimizer | Sequence[Optimizer],
        *,
        rho: float | Schedule,
        geometry: Geometry | None,
        settings: Mapping[str, float | Schedule] | None = None,
        fixed: Mapping[str, float] | None = None,
        **options: Unpack[RandomOptions],
    ) -> None:
        self.geometry = L2() if geometry is None else geometry
        if not isinstance(self.geometry, Geometry):
            raise SettingError(
                "geometry must be a steppe.geometry.Geometry such as Adaptive(), got "
                f"{brief(geometry)}."
            )
        self.bounds = {**type(self).bounds, **self.geometry.in_groups}  # type: ignore[misc]
        own = {"rho": rho, **(settings or {}), **self.geometry.settings()}
        super().__init__(base, settings=own, fixed=fixed, **options)
        check_minimizes(self)

    @contextmanager
    def uphill(
        self,
        step: StepContext,
        along: Mapping[Tensor, Tensor] | None = None,
        *,
        share: float = 1.0,
    ) -> Iterator[MovedParameters]:
        """Hold the weights after an ascent step: at w + rho * share along the gradient.

        Args:
            step: the running one.
            along: directions by parameter, kept as they are; None takes the gradients
                of the last pass and destroys them, which saves a copy.
            share: of rho.
        """
        params, grads = step.with_grad()
        if along is not None:
            params = [p for p in step.perturbed() if p in along]
            grads = [along[p].clone() for p in params]
        rho = [share * radius for radius in step.setting("rho", params)]
        clean = step.depth == 0 and (
            along is None or all(along[p] is p.grad for p in params)
        )
        deltas, norm = self.geometry.ascent_(step, params, grads, rho)
        step.require_finite(norm)
        if clean and self.geometry.tells_length:
            step.metrics.note("grad_norm", norm)
        with step.held(params) as here:
            here.add(deltas)
            del deltas, grads, along  # `p.grad` goes too when the next pass begins
            yield here
