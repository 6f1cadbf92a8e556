"""Lengths of the first and the final gradient of a step, and their cosine."""

from __future__ import annotations

import torch
from torch import Tensor

from steppe.stepping.context import StepContext
from steppe.stepping.loop import AbstractHook, nothing
from steppe.vectors import joint_dot, joint_norm


class Monitor(AbstractHook):
    """Notes how the gradient to step with differs from that of the first pass."""

    before_pass = nothing

    _step: StepContext

    def __init__(self) -> None:
        self._first: dict[Tensor, Tensor] = {}

    def start(self, step: StepContext) -> None:
        self._step = step

    def after_pass(self, index: int) -> None:
        if index == 0:
            # A copy: methods turn the gradient into their perturbation in place.
            self._first = {p: g.clone() for p, g in self._step.gradients().items()}

    @torch.no_grad()
    def finish(self) -> None:
        first, last = self._first, self._step.gradients()
        if not first:
            return
        norms = [joint_norm(list(each.values())) for each in (first, last)]
        both = [p for p in first if p in last]
        dot = joint_dot([first[p] for p in both], [last[p] for p in both])
        metrics = self._step.metrics
        metrics.note("grad_norm", norms[0])
        metrics.note("final_grad_norm", norms[1])
        metrics.note("cosine", dot / (norms[0] * norms[1]))

    def restore(self, completed: bool) -> None:
        self._first = {}
