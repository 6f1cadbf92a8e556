"""One loop of passes: the hooks around it, its run, and its end by the caller."""

from __future__ import annotations

import inspect
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Sequence

import torch
from torch import Tensor

from steppe.parameters import forget_derived
from steppe.stepping.context import (
    AfterStep,
    GradientRequest,
    Plan,
    StepContext,
    advance,
)

Loop = Generator[int, None, None]


def nothing(*_: object, **__: object) -> None:
    """Stands in a hook for the moments at which it has nothing to do."""


class AbstractHook(ABC):
    """Takes part in the loops of passes of one optimizer, one after the other.

    Hooks nest like context managers: `start`, `before_pass` and `after_pass` are called
    in the order of the driver's list, `finish` and `restore` in reverse.
    """

    @abstractmethod
    def start(self, step: StepContext) -> None:
        """Begin a loop, before the method asks for anything."""

    @abstractmethod
    def before_pass(self, index: int, request: GradientRequest) -> None:
        """Prepare pass `index`, which is about to give the caller control."""

    @abstractmethod
    def after_pass(self, index: int) -> None:
        """Take over the gradient of pass `index`, before the method sees it."""

    @abstractmethod
    def finish(self) -> None:
        """End a loop without errors; may edit `p.grad`, the gradient of the step.

        The weights are back already, but for methods that go on after the step.
        """

    @abstractmethod
    def restore(self, completed: bool) -> None:
        """End the loop in any case: restore the caller's state, and let tensors go.

        Args:
            completed: whether all hooks have finished; False after an exception or a
                `break` in the caller's loop.
        """


class StateCommit(AbstractHook):
    """Commits the staged state of a method at the end of its passes, or drops it.

    Args:
        share: spreads a NaN to other processes; None for one process.
    """

    before_pass = after_pass = nothing

    _step: StepContext

    def __init__(self, share: Callable[[Tensor], None] | None) -> None:
        self._share = share

    def start(self, step: StepContext) -> None:
        self._step = step
        step.method_state.begin()

    def finish(self) -> None:
        # First, because the state commits only where the final gradient is finite.
        self._step.propagate_non_finite(self._share)
        self._step.method_state.commit(self._step.gradients)

    def restore(self, completed: bool) -> None:
        self._step.method_state.end(finished=completed)


def run_passes(
    plan: Plan,
    step: StepContext,
    hooks: Sequence[AbstractHook],
    exists: Callable[[GradientRequest], bool],
) -> Generator[int, None, bool]:
    """Let a method have its gradients, one pass of the caller's loop for each.

    Args:
        plan: of the method, closed at the end.
        step: the context of the plan.
        hooks: around the passes, from the outermost in.
        exists: whether the batch has the share that a request is about.

    Returns:
        Whether the plan is not at its end but goes on after the base's step.
    """
    for hook in hooks:
        hook.start(step)
    index, completed, waits = 0, False, False
    try:
        while isinstance(request := advance(plan), GradientRequest):
            if not exists(request):
                continue  # a short batch has fewer shares than the method asks for
            for hook in hooks:
                hook.before_pass(index, request)
            # Casts that autocast made elsewhere would outlive a change of weights
            # that a method, or the caller, has made without the context.
            forget_derived()
            yield index
            for hook in hooks:
                hook.after_pass(index)
            index += 1
            if step.stopped:
                _close(plan)
        for hook in reversed(hooks):
            hook.finish()
        completed, waits = True, isinstance(request, AfterStep)
    finally:
        # Also after an exception or a `break`: closing the plan ends its `held` blocks,
        # so the weights are back before anything else is.
        if not waits:
            _close(plan)
        for hook in reversed(hooks):
            hook.restore(completed)
    return waits


def _close(plan: Plan) -> None:
    with torch.no_grad():
        plan.close()


def is_over(loop: Loop) -> bool:
    """Whether a loop of passes has ended or been closed."""
    return inspect.getgeneratorstate(loop) == inspect.GEN_CLOSED


class OpenLoop:
    """The loop of passes that was begun last, as long as its caller keeps it."""

    def __init__(self, loop: Loop | None = None) -> None:
        self._loop = None if loop is None else weakref.ref(loop)

    def get(self) -> Loop | None:
        """The loop, unless it is over."""
        loop = None if self._loop is None else self._loop()
        return None if loop is None or is_over(loop) else loop

    def close(self) -> bool:
        """End it, so that the weights come back; whether it was still open."""
        loop = self.get()
        if loop is not None:
            loop.close()
        return loop is not None
