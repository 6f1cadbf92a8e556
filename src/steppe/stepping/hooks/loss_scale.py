"""The scale of a `GradScaler`, which methods are not to see."""

from __future__ import annotations

import torch
from torch import Tensor

from steppe.stepping.context import GradientRequest, StepContext
from steppe.stepping.loop import AbstractHook, nothing
from steppe.stepping.micro_batches import MicroBatches


class LossScale(AbstractHook):
    """Takes the scale out of gradients after each pass, and puts it back at the end.

    Args:
        scaler: an enabled one.
        micro_batches: of the optimizer.
        undoes: whether it is taken out of gradients, or only of the lengths in
            `metrics()`, which is enough for a method that scales as its gradients do.
    """

    restore = nothing

    _step: StepContext

    def __init__(
        self,
        scaler: torch.amp.GradScaler,
        micro_batches: MicroBatches,
        *,
        undoes: bool,
    ) -> None:
        self._scaler, self._micro_batches = scaler, micro_batches
        self._undoes = undoes

    def plain(self, norm: Tensor) -> Tensor:
        """The length of gradients as they are now, without the scale."""
        return norm if self._undoes else norm / self._scale(norm.device)

    def start(self, step: StepContext) -> None:
        self._step = step

    @torch.no_grad()
    def before_pass(self, index: int, request: GradientRequest) -> None:
        grads = list(self._step.gradients().values()) if self._undoes else []
        if grads and self._micro_batches.adds:
            # `backward()` is about to add a scaled gradient to the sum.
            self._micro_batches.scale_(self._scale(grads[0].device))

    @torch.no_grad()
    def after_pass(self, index: int) -> None:
        grads = list(self._step.gradients().values()) if self._undoes else []
        if grads:
            # A multiplication on the device; `unscale_` would wait for it.
            torch._foreach_mul_(grads, self._scale(grads[0].device).reciprocal())

    @torch.no_grad()
    def finish(self) -> None:
        for name in ("grad_norm", "final_grad_norm"):
            self._step.metrics.change(name, self.plain)
        grads = list(self._step.gradients().values()) if self._undoes else []
        if grads:
            # The scaler takes the scale out itself, before it looks for an overflow.
            torch._foreach_mul_(grads, self._scale(grads[0].device))

    def _scale(self, device: torch.device) -> Tensor:
        scaled: Tensor = self._scaler.scale(torch.ones((), device=device))
        return scaled
