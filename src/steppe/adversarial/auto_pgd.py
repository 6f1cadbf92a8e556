"""Auto-PGD: projected gradient ascent that chooses its own step sizes.

Source: Croce and Hein, 2020, arXiv:2003.01690, Algorithm 1: momentum 0.75, a first step
of twice the radius, and checkpoints at which a step size that does not pay is halved
and the search goes on from the best point.

It has never heard of a network: the user gives the loss and its gradient at a
displacement. With one loss per row of the tensors, every row is a search of its own.

Shape letters: P tensors, B rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from steppe.adversarial.balls import Ball, along_rows
from steppe.errors import SettingError
from steppe.registry.bounds import Ranges, at_least, check_bounds

# Losses, shape () or (B,), and P gradients of their sum at a displacement.
Evaluate = Callable[[list[Tensor]], tuple[Tensor, Sequence[Tensor]]]

FIRST_CHECK, SHORTER, LEAST = 0.22, 0.03, 0.06  # checkpoints, as shares of the steps
ROUNDING = 1e-9  # of a share of the steps that is a whole number
PAYS = 0.75  # share of the steps that must raise the loss
BOUNDS: Ranges = {
    "steps": at_least(1),
    "restarts": at_least(0),
    "momentum": (0.0, 1.0),
}


@dataclass(frozen=True)
class Ascent:
    """The best point of a search.

    Args:
        losses: there, shape () or (B,).
        displacement: P tensors.
        start: losses without a displacement.
        history: largest losses after 0, 1, ... steps of the first search.
        evaluations: calls for the loss and its gradient.
    """

    losses: Tensor
    displacement: list[Tensor]
    start: Tensor
    history: list[Tensor]
    evaluations: int


def auto_pgd(
    evaluate: Evaluate,
    ball: Ball,
    *,
    steps: int = 20,
    momentum: float = 0.75,
    restarts: int = 0,
    starts: Sequence[Sequence[Tensor]] = (),
    generator: torch.Generator | None = None,
) -> Ascent:
    """Search the largest loss in a ball, from its centre and from other points.

    Each search takes `steps + 1` evaluations. The best point is kept, so that no loss
    is below that of the centre.

    Args:
        evaluate: gives the losses, shape () or one for each of the B rows of all
            tensors, and the P gradients of their sum, at P displacements.
        ball: of the displacements; its share is "row" where each row has a loss.
        steps: of each search.
        momentum: share of a step that is new, in [0, 1]; the rest repeats the last one.
        restarts: more searches, from random points.
        starts: points of the ball that further searches begin at, each of P tensors in
            units of its scale.
        generator: of random points and directions; None for torch's global one.

    Raises:
        SettingError: a setting out of its range, or losses of another shape.

    Example:
        >>> slope = torch.tensor([3.0, -4.0])
        >>> def line(delta):
        ...     return delta[0] @ slope, [slope]
        >>> best = auto_pgd(line, Ball(like=[slope], radius=0.5))
        >>> [round(entry, 4) for entry in best.displacement[0].tolist()]
        [0.3, -0.4]
    """
    settings = {"steps": steps, "restarts": restarts, "momentum": momentum}
    check_bounds(settings, BOUNDS)
    search = _Search(evaluate, ball, steps, momentum, generator)
    best = search.ascend(ball.centre())
    start, history = best.start, best.history
    losses, units = best.losses, best.units
    others = (ball.random(generator) for _ in range(restarts))
    for point in chain(starts, others):
        other = search.ascend(list(point))
        higher = other.losses > losses
        losses = torch.where(higher, other.losses, losses)
        units = _chosen(higher, other.units, units)
    return Ascent(losses, ball.displacements(units), start, history, search.calls)


def checkpoints(steps: int) -> list[int]:
    """Steps after which the step size is looked at.

    Example:
        >>> checkpoints(20)
        [5, 9, 12, 14, 16, 18, 19, 20]
    """
    checks: list[int] = []
    share, length = FIRST_CHECK, FIRST_CHECK
    while share <= 1:
        checks.append(math.ceil(share * steps - ROUNDING))
        length = max(length - SHORTER, LEAST)
        share += length
    return list(dict.fromkeys(checks))


@dataclass
class _Top:
    losses: Tensor
    units: list[Tensor]
    start: Tensor
    history: list[Tensor]


@dataclass
class _Search:
    evaluate: Evaluate
    ball: Ball
    steps: int
    momentum: float
    generator: torch.Generator | None
    calls: int = 0
    drawn: list[Tensor] | None = None  # the way where there is no gradient

    def ascend(self, start: list[Tensor]) -> _Top:
        """Ascend from a point in units of the scale."""
        here, before = start, start
        losses, grads = self._at(here)
        top, top_units, top_grads = losses, here, grads
        history = [top]
        step = torch.full_like(losses, 2 * self.ball.radius)
        # What they were at the last checkpoint.
        seen_step, seen_top, seen = step, top, 0
        rises = torch.zeros_like(losses)
        checks = set(checkpoints(self.steps))
        for done in range(1, self.steps + 1):
            here, before = self._next(here, before, grads, step, done == 1), here
            new, grads = self._at(here)
            rises = rises + (new > losses).to(rises)
            higher = new > top
            top = torch.where(higher, new, top)
            top_units = _chosen(higher, here, top_units)
            top_grads = _chosen(higher, grads, top_grads)
            losses = new
            history.append(top)
            if done in checks:
                rarely = rises < PAYS * (done - seen)
                stuck = (step == seen_step) & (top == seen_top)
                halve = rarely | stuck
                seen_step, seen_top, seen = step, top, done
                rises = torch.zeros_like(rises)
                step = torch.where(halve, step / 2, step)
                losses = torch.where(halve, top, losses)
                here = _chosen(halve, top_units, here)
                grads = _chosen(halve, top_grads, grads)
        return _Top(top, top_units, history[0], history)

    def _next(
        self,
        here: list[Tensor],
        before: list[Tensor],
        grads: list[Tensor],
        step: Tensor,
        first: bool,
    ) -> list[Tensor]:
        """The next point, from the present and the last one."""
        way = self.ball.direction(grads, self._drawn)
        ahead = self.ball.project(
            [u + along_rows(step, u).to(u) * d for u, d in zip(here, way, strict=True)]
        )
        if first:
            return ahead
        new, old = self.momentum, 1 - self.momentum
        return self.ball.project(
            [
                u + new * (a - u) + old * (u - b)
                for u, a, b in zip(here, ahead, before, strict=True)
            ]
        )

    def _at(self, units: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Losses, and gradients in units of the scale."""
        self.calls += 1
        losses, grads = self.evaluate(self.ball.displacements(units))
        self._check(losses)
        return losses, self.ball.displacements(grads)

    def _drawn(self) -> list[Tensor]:
        # Once: a row would see by another one's draws when that has no gradient.
        if self.drawn is None:
            self.drawn = self.ball.drawn(self.generator)
        return self.drawn

    def _check(self, losses: Tensor) -> None:
        rows = {len(t) for t in self.ball.like if t.dim()}
        by_row = losses.dim() == 1 and rows == {len(losses)}
        if not (by_row if self.ball.share == "row" else losses.dim() == 0):
            raise SettingError(
                "the losses must be of shape () or, with a ball for each row, one for "
                f"each row, got {tuple(losses.shape)} with share="
                f"'{self.ball.share}'; sum or share them out."
            )


def _chosen(
    first: Tensor, one: Sequence[Tensor], other: Sequence[Tensor]
) -> list[Tensor]:
    """Tensors of one list where a condition holds, shape () or (B,), else others."""
    return [
        torch.where(along_rows(first, a), a, b) for a, b in zip(one, other, strict=True)
    ]
