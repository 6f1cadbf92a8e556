"""The success of an attack on samples, budget by budget.

A change within a budget is within every larger one, so a sample that a budget has
fooled counts at all larger ones and is not attacked again: success never falls with the
budget. A sample that is classified wrongly as it is counts at every budget, also at 0.

Shape letters: B rows, E budgets, N samples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from steppe_lab.attacks.abstract import AbstractAttack, ball_of, sizes
from steppe_lab.attacks.draws import Draws
from steppe_lab.attacks.victim import Victim

# Inputs (B, ...) and labels (B,) of the samples at some places.
Rows = Callable[[Tensor], tuple[Tensor, Tensor]]
ROWS = 64  # samples that are attacked at once
EXAMPLES = 4  # that are kept of each attack


@dataclass(frozen=True)
class Examples:
    """A few samples that an attack has fooled, in the order that it fooled them in."""

    places: Tensor  # (K,) int64
    inputs: Tensor  # (K, ...)
    changed: Tensor  # (K, ...)
    predicted: Tensor  # (K,) int64, classes of the changed inputs
    epsilons: Tensor  # (K,) float64, budgets that were enough


@dataclass(frozen=True)
class Outcome:
    """All that an attack did to N samples."""

    success: Tensor  # (E, N) bool
    # (N,) float64, norms of the smallest changes that succeed, infinite where none
    # does; NaN for attacks that only keep within a budget
    norms: Tensor
    examples: Examples


def wrong_before(victim: Victim, rows: Rows, samples: int) -> Tensor:
    """Whether samples are classified wrongly as they are, shape (N,)."""
    pieces = torch.split(torch.arange(samples), ROWS)
    return torch.cat([victim.wrong(*rows(places)).cpu() for places in pieces])


def attacked(
    attack: AbstractAttack,
    victim: Victim,
    rows: Rows,
    *,
    wrong: Tensor,
    epsilons: Sequence[float],
    seed: int,
    report: Callable[[int, int], object] | None = None,
) -> Outcome:
    """Attack samples with each budget in turn.

    A search for the smallest change is done once, and its change cut to each budget.

    Args:
        attack: with its settings.
        victim: the classifier.
        rows: gives the samples.
        wrong: whether they are classified wrongly as they are, shape (N,).
        epsilons: E budgets, ascending, in the norm of the attack.
        seed: of random numbers.
        report: called with the samples that are done, counted once for each search,
            and all there are.
    """
    gallery, samples = _Gallery(), len(wrong)
    success = wrong.repeat(len(epsilons), 1)
    norms = torch.full((samples,), torch.nan, dtype=torch.float64)
    if attack.minimal:
        norms = torch.where(wrong, 0.0, torch.inf).double()
    searches = epsilons[-1:] if attack.minimal else epsilons
    for number, epsilon in enumerate(searches):
        left = (~success[number]).nonzero().flatten()
        done = (number + 1) * samples - len(left)
        # Within a budget of 0 nothing changes, and a ball has a radius.
        searched = (epsilon > 0 or attack.minimal) and len(left) > 0
        pieces = torch.split(left, ROWS) if searched else ()
        for places in pieces:
            inputs, labels = rows(places)
            draws = Draws(seed, places.tolist())
            changed = attack(victim, inputs, labels, epsilon, draws)
            if attack.minimal:
                norms[places] = _norms(attack, victim, inputs, changed, labels)
                within = list(enumerate(epsilons))
            else:
                within = [(number, epsilon)]
            for index, budget in within:
                cut = _cut(attack, victim, inputs, changed, budget)
                now = victim.wrong(cut, labels).cpu()
                gallery.add(victim, places, (inputs, cut), budget, now)
                # What is within a budget is within all larger ones.
                success[index:, places] |= now
            done += len(places)
            if report is not None:
                report(done, len(searches) * samples)
    return Outcome(success, norms, gallery.examples())


def _cut(
    attack: AbstractAttack,
    victim: Victim,
    inputs: Tensor,
    changed: Tensor,
    epsilon: float,
) -> Tensor:
    """Inputs whose changes are cut to a budget, where the attack has not done so."""
    if not attack.minimal:
        return changed
    if epsilon == 0:
        return inputs
    ball = ball_of(inputs, epsilon, attack.norm)
    return victim.clipped(inputs + ball.project([changed - inputs])[0], inputs)


def _norms(
    attack: AbstractAttack,
    victim: Victim,
    inputs: Tensor,
    changed: Tensor,
    labels: Tensor,
) -> Tensor:
    """Norms of the changes that succeed, infinite for the others, shape (B,)."""
    own = sizes(changed - inputs, attack.norm)
    return torch.where(victim.wrong(changed, labels), own, torch.inf).cpu()


class _Gallery:
    """The first samples that an attack fools."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, ...]] = []
        self._seen: list[int] = []

    def add(
        self,
        victim: Victim,
        places: Tensor,
        both: tuple[Tensor, Tensor],
        epsilon: float,
        fooled: Tensor,
    ) -> None:
        """Take samples that are new, by their inputs before and after."""
        new = fooled & ~torch.isin(places, torch.tensor(self._seen))
        chosen = new.nonzero().flatten()[: EXAMPLES - len(self._seen)]
        if not len(chosen):
            return
        self._seen += places[chosen].tolist()
        inputs, changed = (each[chosen.to(each.device)] for each in both)
        with torch.no_grad():
            predicted = victim.scores(changed).argmax(1)
        budgets = torch.full((len(chosen),), epsilon, dtype=torch.float64)
        about = (inputs.cpu(), changed.cpu(), predicted.cpu(), budgets)
        self._parts.append((places[chosen], *about))

    def examples(self) -> Examples:
        """All of them, in the order that they were fooled in."""
        if not self._parts:
            none = torch.zeros(0)
            return Examples(none.long(), none, none, none.long(), none.double())
        return Examples(*(torch.cat(each) for each in zip(*self._parts, strict=True)))
