"""A gate that decides by the first gradient of a step."""

from __future__ import annotations

from steppe.gates import LookingGate
from steppe.stepping.context import StepContext
from steppe.stepping.hooks.gradient_sync import GradientSync
from steppe.stepping.hooks.loss_scale import LossScale
from steppe.stepping.loop import AbstractHook, nothing
from steppe.stepping.micro_batches import MicroBatches
from steppe.vectors import joint_norm


class FirstGradientGate(AbstractHook):
    """Ends a method after its first gradient where the gate is closed.

    The base then steps with that gradient, which costs nothing more.

    Args:
        gate: decides by the squared length of the gradient.
        micro_batches: of the optimizer; the gate waits for the sum over all shares.
        sync: of the optimizer; all processes decide alike.
        scale: of the loss, None for 1.
    """

    before_pass = finish = restore = nothing

    _step: StepContext
    _decided: bool

    def __init__(
        self,
        gate: LookingGate,
        micro_batches: MicroBatches,
        sync: GradientSync,
        scale: LossScale | None,
    ) -> None:
        self._gate, self._micro_batches = gate, micro_batches
        self._sync, self._scale = sync, scale

    def start(self, step: StepContext) -> None:
        self._step, self._decided = step, False

    def after_pass(self, index: int) -> None:
        if self._decided or not self._micro_batches.complete:
            return
        step, self._decided = self._step, True
        norm = joint_norm(list(step.gradients().values()))
        norm = norm if self._scale is None else self._scale.plain(norm)
        squared = self._sync.mean(norm.item() ** 2)
        numbers = step.method_state.numbers
        step.stopped = not self._gate.opens_for(squared, step.number, numbers)
