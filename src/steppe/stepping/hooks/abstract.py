"""The protocol between the driver and all it does around the passes of a step."""

from __future__ import annotations

from abc import ABC, abstractmethod

from steppe.stepping.context import GradientRequest, StepContext


def nothing(*_: object, **__: object) -> None:
    """Stands in a hook for the moments at which it has nothing to do."""


class AbstractHook(ABC):
    """Takes part in one loop of passes.

    Hooks nest like context managers: `start`, `before_pass` and `after_pass` are called
    in the order of the driver's list, `finish` and `restore` in reverse.
    """

    @abstractmethod
    def start(self, step: StepContext) -> None:
        """Begin the loop, before the method asks for anything."""

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
        """End the loop in any case, and restore the caller's state.

        Args:
            completed: whether all hooks have finished; False after an exception or a
                `break` in the caller's loop.
        """
