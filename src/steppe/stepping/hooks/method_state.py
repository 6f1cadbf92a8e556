"""State of a method that changes only with a step whose gradients are finite."""

from __future__ import annotations

from steppe.stepping.context import StepContext
from steppe.stepping.hooks.abstract import AbstractHook, nothing
from steppe.stepping.hooks.gradient_sync import GradientSync


class StateCommit(AbstractHook):
    """Commits the staged state of a method at the end of its passes, or drops it.

    Args:
        sync: of the optimizer.
    """

    before_pass = after_pass = nothing

    _step: StepContext

    def __init__(self, sync: GradientSync) -> None:
        self._sync = sync

    def start(self, step: StepContext) -> None:
        self._step = step
        step.method_state.begin()

    def finish(self) -> None:
        step = self._step
        # First, because the state commits only where the final gradient is finite.
        step.propagate_non_finite(self._sync.share if self._sync.local else None)
        step.method_state.commit(step.gradients)

    def restore(self, completed: bool) -> None:
        self._step.method_state.end(finished=completed)
