"""Schedules one step late, as the published code of GSAM runs them."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.errors import SettingError
from steppe.schedules.abstract import StepSchedule


@dataclass(frozen=True)
class Lagging:
    """Another schedule one step late, after a value of its own at step 0.

    Args:
        schedule: gives the value of step t in step t + 1.
        first: value at step 0.
    """

    schedule: StepSchedule
    first: float

    def __call__(self, step: int) -> float:
        return self.first if step <= 0 else self.schedule(step - 1)


@dataclass(frozen=True)
class _Line:
    """A linear function of another schedule."""

    schedule: StepSchedule
    offset: float
    slope: float

    def __call__(self, step: int) -> float:
        return self.offset + self.slope * self.schedule(step)


def published_gsam(
    lr: StepSchedule,
    *,
    max_lr: float,
    min_lr: float,
    max_rho: float,
    min_rho: float,
) -> tuple[StepSchedule, StepSchedule]:
    """Learning rate and radius as the authors' PyTorch code of GSAM runs them.

    Step 0 has the learning rate max_lr, which the base was made with, and the radius
    that belongs to a learning rate of 0, below min_rho where min_lr > 0; every later
    step t has both of step t - 1. To compare with published runs only: `lr` and
    `Proportional` have the values of step t in step t, and no radius out of its range.

    Source: Zhuang et al., 2022, arXiv:2203.08065, the schedulers of the authors' code
    in the order of its training script.

    Args:
        lr: the learning rate as it is meant, such as `Linear` with `warmup_start=0.0`;
            beyond its last step it stays, where the authors' line falls below 0.
        max_lr: highest learning rate, and that of the base optimizer.
        min_lr: lowest learning rate, where the radius is min_rho; below max_lr.
        max_rho: radius at max_lr.
        min_rho: radius at min_lr.

    Returns:
        Schedules of the learning rate and of the radius.
    """
    if not min_lr < max_lr:
        raise SettingError(f"min_lr must be < max_lr, got {min_lr} and {max_lr}.")
    slope = (max_rho - min_rho) / (max_lr - min_lr)
    rho = _Line(lr, min_rho - slope * min_lr, slope)
    return Lagging(lr, max_lr), Lagging(rho, rho.offset)
