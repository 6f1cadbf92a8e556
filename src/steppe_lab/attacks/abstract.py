"""Attacks: the base class, the facts about them, and the registry.

Shape letters: B rows.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from steppe.adversarial.balls import Ball, Norm
from steppe.registry.bounds import Ranges, check_bounds
from steppe.registry.registry import Registry
from steppe.registry.specs import OF_THE_CLASS, Spec
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim


@dataclasses.dataclass(frozen=True, kw_only=True)
class AttackSpec(Spec):
    """Facts about an attack."""

    norm: Norm = dataclasses.field(default="inf", metadata=OF_THE_CLASS)
    # it looks for the smallest change that succeeds, whatever the budget
    minimal: bool = dataclasses.field(default=False, metadata=OF_THE_CLASS)
    random: bool = dataclasses.field(default=False, metadata=OF_THE_CLASS)
    steps: int = 1  # gradients of a row at its default settings, at most


ATTACKS = Registry("attack", AttackSpec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractAttack(abc.ABC):
    """Settings of an attack; calling it on inputs changes them within a budget."""

    bounds: ClassVar[Ranges] = {}  # of the settings that are numbers
    minimal: ClassVar[bool] = False  # these two: see `AttackSpec`
    random: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def norm(self) -> Norm:
        """Of budgets: "inf" for the largest change of an entry, "2" for the Euclidean
        length of the change of a row.
        """

    def __post_init__(self) -> None:
        check_bounds(dataclasses.asdict(self), self.bounds)

    @abc.abstractmethod
    def __call__(
        self,
        victim: Victim,
        inputs: Tensor,
        labels: Tensor,
        epsilon: float,
        draws: Draws,
    ) -> Tensor:
        """Changed inputs, of the same shape, type and device.

        Args:
            victim: the classifier and the bounds of its inputs.
            inputs: shape (B, ...), all of which are classified rightly.
            labels: their classes, shape (B,).
            epsilon: the largest norm of the change of a row, > 0; attacks for the
                smallest change do not look at it.
            draws: random numbers of the rows.
        """


def ball_of(inputs: Tensor, epsilon: float, norm: Norm) -> Ball:
    """Changes of inputs, each row within its budget."""
    return Ball(like=[inputs], radius=epsilon, norm=norm, share="row")


def steepest(ball: Ball, gradient: Tensor) -> Tensor:
    """The steepest way up of norm 1 for each row; 0 where there is no gradient."""
    (way,) = ball.direction([gradient], lambda: [torch.zeros_like(gradient)])
    return way


def whole_step(
    victim: Victim, inputs: Tensor, labels: Tensor, epsilon: float, norm: Norm
) -> Tensor:
    """Inputs after one step of the whole budget the steepest way up, clipped."""
    _, gradient, _ = victim.slopes(inputs, labels)
    way = steepest(ball_of(inputs, epsilon, norm), gradient)
    return victim.clipped(inputs + epsilon * way, inputs)


def sizes(change: Tensor, norm: Norm) -> Tensor:
    """Norms of the changes of rows, float64 of shape (B,)."""
    order = float("inf") if norm == "inf" else 2
    norms: Tensor = torch.linalg.vector_norm(change.double().flatten(1), order, dim=1)
    return norms
