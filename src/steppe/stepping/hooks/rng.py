"""Random draws of torch that repeat in every pass of a step."""

from __future__ import annotations

import torch
from torch import Tensor

from steppe.stepping.context import GradientRequest, StepContext
from steppe.stepping.loop import AbstractHook, nothing


class ReplayedDraws(AbstractHook):
    """Starts every pass from the generators' state at the first one.

    Dropout masks are then the same in all of them. The state after the last pass stays,
    so that the next step draws anew.
    """

    after_pass = finish = restore = nothing

    def __init__(self) -> None:
        self._cpu = torch.empty(0, device="cpu")
        self._cuda: dict[torch.device, Tensor] = {}

    def start(self, step: StepContext) -> None:
        self._cpu = torch.get_rng_state()
        devices = {p.device for p in step.params if p.is_cuda}
        self._cuda = {d: torch.cuda.get_rng_state(d) for d in devices}

    def before_pass(self, index: int, request: GradientRequest) -> None:
        if index == 0:
            return
        torch.set_rng_state(self._cpu)
        for device, state in self._cuda.items():
            torch.cuda.set_rng_state(state, device)
