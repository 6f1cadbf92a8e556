"""Published numbers, and the cells of the tables that they stand in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from steppe_lab.statistics.intervals import Interval

Bound = Literal["", "above", "below"]
NORMAL = 1.959963984540054  # standard errors in half a 95 % interval
PERCENT = (0.0, 100.0)  # shares in percent lie between these
NOT_NEGATIVE = (0.0, math.inf)  # so do losses, norms and ratios of positive numbers
SPREAD = math.inf  # degrees of freedom of an error that is no spread of a few runs


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A quantity that a claim is about.

    Args:
        name: column of the table of a study that has it, such as best_test_error.
        title: in tables and sentences, such as "test error at the best epoch".
        units: of the published numbers, such as "%"; "" for none.
        factor: from our values to those units; 100 for shares in percent.
        between: least and largest value that it can have, in those units; an infinity
            where there is none. Intervals of few seeds reach beyond: their ends are
            cut there where they are shown, after the verdict, which takes them as they
            are.
    """

    name: str
    title: str
    units: str = ""
    factor: float = 1.0
    between: tuple[float, float] = (-math.inf, math.inf)

    def cut(self, interval: Interval) -> Interval:
        """An interval without the values that the quantity cannot have.

        That of a single seed has no ends, and is left as it is.

        Example:
            >>> tau = Quantity(name="tau", title="Kendall's tau", between=(-1.0, 1.0))
            >>> cut = tau.cut(Interval(-0.9, -1.7, -0.1, 3))
            >>> cut.low, cut.high
            (-1.0, -0.1)
        """
        if not math.isfinite(interval.half_width):
            return interval
        least, most = self.between
        return replace(
            interval, low=max(interval.low, least), high=min(interval.high, most)
        )


@dataclass(frozen=True, kw_only=True)
class Published:
    """A number that a paper, its code or its files state.

    Args:
        value: in the units of the quantity.
        half_width: of its 95 % interval as published, 1.96 standard deviations (with
            the number of runs below the root) over the root of the runs; 0 where none
            is. Of a single run it is 1.96 standard errors of the run.
        runs: that it is a mean of.
        note: a fact about it that readers of the number must know.
        bound: "above" or "below" where the source states a side of this value and no
            number, such as a ratio above 1; "" for a number.
    """

    value: float
    half_width: float = 0.0
    runs: int = 1
    note: str = ""
    bound: Bound = ""

    @property
    def stderr(self) -> float:
        """Standard error, with the runs less one below the root; 0 where none is."""
        lost = self.runs / (self.runs - 1) if self.runs > 1 else 1.0
        return self.half_width / NORMAL * math.sqrt(lost)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of its standard error."""
        return self.runs - 1 if self.runs > 1 else SPREAD


@dataclass(frozen=True, kw_only=True)
class PublishedFile:
    """A file of published numbers in the folder of the user's data.

    Args:
        path: within that folder.
        origin: where it is published, for the sentence on a missing one.
        read: gives its numbers by cell, from its path.
    """

    path: str
    origin: str
    read: Callable[[Path], Mapping[str, Published]]


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A row of a claim: one published number and how it is made.

    Args:
        name: words joined by slashes, such as cifar10/resnet18/lpf_sgd.
        published: the number; None where the source states none, or where it stands in
            the `published_in` of the claim.
        settings: of its training, by the names that `steppe train` has, that differ
            from those of the claim.
        scales: further settings at a scale, by its name.
    """

    name: str
    published: Published | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    scales: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A size that a claim is tested at.

    Args:
        settings: of all trainings at this scale, over those of the claim and below
            those of a cell at this scale.
        cells: names of the cells that are run, or beginnings of them that end before a
            slash; None for all.
        seeds: of each cell.
    """

    settings: Mapping[str, Any] = field(default_factory=dict)
    cells: tuple[str, ...] | None = None
    seeds: int = 1
