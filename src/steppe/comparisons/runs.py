"""Measurements of several networks on the same data, its parts, and the same draws.

Shape letters: K networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from steppe.comparisons.units import Unit, part_of
from steppe.errors import SteppeError
from steppe.measures import AbstractMeasure, measure, refused
from steppe.measures.measurement import Weights
from steppe.objective import Objective
from steppe.results import Cost, Estimate

Progress = Callable[[int, int], None]
Measures = Mapping[str, AbstractMeasure]
Row = tuple[Estimate, ...]  # of each of K networks
Rows = dict[str, list[Row]]


@dataclass(frozen=True)
class Asked:
    """One measurement of a network, apart from the network and its data."""

    measure: str  # name and all settings
    seed: int
    without: str = ""  # the part of the data that is left out; "" for none


class Known(Protocol):
    """Estimates that need not be measured again, such as a dictionary or a file."""

    def __contains__(self, asked: object, /) -> bool:
        """Whether the estimate is known."""

    def __getitem__(self, asked: Asked, /) -> Estimate:
        """The estimate."""

    def __setitem__(self, asked: Asked, estimate: Estimate, /) -> None:
        """Remember an estimate."""


class Runs:
    """Measurements of all objectives, counted, with the cost of each objective."""

    def __init__(
        self,
        objectives: Sequence[Objective],
        starts: Sequence[Weights | None] | None,
        other: Weights | None,
        known: Sequence[Known] | None,
        progress: Progress | None,
        total: int,
    ) -> None:
        self.objectives = objectives
        self.costs = [Cost() for _ in objectives]
        self.done, self.total = 0, total
        self._starts = starts or [None] * len(objectives)
        self._other = other
        self._known: Sequence[Known] = known or [{} for _ in objectives]
        self._progress = progress

    def first(self, measures: Measures, seed: int) -> dict[str, Row]:
        """Estimates on all of the data.

        Raises:
            SteppeError: the first refusal of a network that allows no measure.
        """
        rows = []
        for number, objective in enumerate(self.objectives):
            before = objective.cost
            rows.append(self._measure(number, objective, measures, seed))
            self.costs[number] += objective.cost - before
        return _joined(rows)

    def on_all(self, measures: Measures, seed: int) -> dict[str, Row]:
        """Estimates on all of the data."""
        each = enumerate(self.objectives)
        rows = [self._measured(number, o, measures, seed) for number, o in each]
        self.tick(self.done + 1)
        return _joined(rows)

    def on_part(
        self, measures: Measures, seed: int, unit: Unit, deal: Tensor, group: int
    ) -> tuple[dict[str, Row], float]:
        """Estimates without a group of the data, and the share of the loss terms."""
        rows, kept = [], deal != group
        without = f"group {group} of {int(deal.max()) + 1}, dealt by {unit}"
        for number, whole in enumerate(self.objectives):
            part = part_of(whole, unit, kept)
            share = part.count() / whole.count()
            rows.append(self._measured(number, part, measures, seed, without, share))
        self.tick(self.done + 1)
        return _joined(rows), share

    def tick(self, done: int) -> None:
        """Report the number of measurements of all networks that are done."""
        self.done = done
        if self._progress is not None:
            self._progress(done, self.total)

    def _measured(
        self,
        number: int,
        objective: Objective,
        measures: Measures,
        seed: int,
        without: str = "",
        share: float = 1.0,
    ) -> dict[str, Estimate]:
        """Estimates by key; one that is refused says why."""
        before = objective.cost
        try:
            return self._measure(number, objective, measures, seed, without)
        except (SteppeError, torch.OutOfMemoryError) as error:  # of all of them
            return {key: refused(built, error) for key, built in measures.items()}
        finally:
            self.costs[number] += (objective.cost - before).scaled(share)

    def _measure(
        self,
        number: int,
        objective: Objective,
        measures: Measures,
        seed: int,
        without: str = "",
    ) -> dict[str, Estimate]:
        memory = self._known[number]
        asked = {
            str(m.choice()): Asked(str(m.choice()), seed, without)
            for m in measures.values()
        }

        def keep(key: str, estimate: Estimate) -> None:
            if not estimate.refusal:
                memory[asked[key]] = estimate

        estimates = measure(
            objective,
            measures.values(),
            seed=seed,
            start=self._starts[number],
            other=self._other,
            known={key: memory[each] for key, each in asked.items() if each in memory},
            finished=keep,
        )
        return dict(zip(measures, estimates.values(), strict=True))


def _joined(sides: Sequence[Mapping[str, Estimate]]) -> dict[str, Row]:
    return {key: tuple(side[key] for side in sides) for key in sides[0]}
