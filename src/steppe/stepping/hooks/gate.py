"""A gate that decides by the first gradient of a step."""

from __future__ import annotations

import torch

from steppe.gates import LookingGate
from steppe.stepping.context import Plan, StepContext
from steppe.stepping.hooks.abstract import AbstractHook, nothing
from steppe.stepping.hooks.gradient_sync import GradientSync
from steppe.stepping.hooks.loss_scale import LossScale
from steppe.vectors import joint_norm


class FirstGradientGate(AbstractHook):
    """Ends a method after its first pass where the gate is closed.

    The base then steps with the gradient of that pass, which costs nothing more.

    Args:
        gate: decides by the squared length of the gradient.
        plan: of the method.
        sync: of the optimizer; all processes decide alike.
        scale: of the loss, None for 1.
    """

    before_pass = finish = restore = nothing

    _step: StepContext

    def __init__(
        self,
        gate: LookingGate,
        plan: Plan,
        sync: GradientSync,
        scale: LossScale | None,
    ) -> None:
        self._gate, self._plan, self._sync, self._scale = gate, plan, sync, scale

    def start(self, step: StepContext) -> None:
        self._step = step

    def after_pass(self, index: int) -> None:
        if index > 0:
            return
        step = self._step
        norm = joint_norm(list(step.gradients().values()))
        norm = norm if self._scale is None else self._scale.plain(norm)
        squared = self._sync.mean(norm.item() ** 2)
        numbers = step.method_state.numbers
        if not self._gate.opens_for(squared, step.number, numbers):
            with torch.no_grad():
                self._plan.close()
