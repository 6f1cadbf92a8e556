"""Failures of a training that follow from its recipe."""

from __future__ import annotations

import math

from steppe.errors import SteppeError


class TrainingFailedError(SteppeError, ArithmeticError):
    """Training that cannot go on, such as a loss that is no number.

    It follows from the recipe, so trying again changes nothing.
    """


class LostProcessError(SteppeError):
    """Another process of a training has ended."""


class FailedElsewhereError(LostProcessError):
    """The first process failed, and says why."""


def check_finite(name: str, loss: float, epoch: int) -> None:
    """Refuse a loss of an epoch, counted from 1, that is NaN or infinite.

    Raises:
        TrainingFailedError: it is.
    """
    if not math.isfinite(loss):
        raise TrainingFailedError(
            f"the {name} loss became {loss} in epoch {epoch}; lower the learning rate "
            "or the radius."
        )
