"""Sum of the gradients of several loops, which together make one step."""

from __future__ import annotations

from torch import Tensor

from steppe.stepping.context import StepContext
from steppe.stepping.loop import AbstractHook, nothing


class Accumulation(AbstractHook):
    """Adds the gradient of a loop to the one that `p.grad` holds before it."""

    before_pass = after_pass = nothing

    def __init__(self) -> None:
        self._params: list[Tensor] = []
        self._earlier: list[Tensor | None] = []

    def start(self, step: StepContext) -> None:
        self._params = step.params
        self._earlier = [p.grad for p in step.params]

    def finish(self) -> None:
        for p, earlier in zip(self._params, self._earlier, strict=True):
            if p.grad is None:
                p.grad = earlier
            elif earlier is not None:
                # In place: the caller may hold the tensor, as torch's own sum allows.
                p.grad = earlier.add_(p.grad)

    def restore(self, completed: bool) -> None:
        if not completed:
            for p, earlier in zip(self._params, self._earlier, strict=True):
                p.grad = earlier
        self._params, self._earlier = [], []
