"""Claims about the table of a whole study, such as a correlation over its networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from steppe_lab.reproduction.claims import AbstractClaim, Request, is_named
from steppe_lab.reproduction.published import Cell
from steppe_lab.reproduction.verdicts import Ours
from steppe_lab.statistics.intervals import Interval
from steppe_lab.studies.files import read_study

if TYPE_CHECKING:
    from steppe_lab.statistics.result import AbstractStatistic
    from steppe_lab.store.store import Store
    from steppe_lab.studies.stored import StoredStudy
    from steppe_lab.studies.table import StudyTable


@dataclass(frozen=True, kw_only=True)
class StudyClaim(AbstractClaim):
    """A claim whose cells are statistics of the table of one built-in study.

    Cells cannot be run apart: the study is run as a whole, and may be so by `steppe
    study run` too. Its seeds are those of the study.

    Args:
        built_in: name of the study.
        statistics: gives the statistics of a table by cell.
        least: rows that the statistics need.
        smaller: names of the cells that a scale has, or beginnings of them that end
            before a slash, by the scale; one that is not named has all.
    """

    built_in: str
    statistics: Callable[[StudyTable], Mapping[str, Ours]]
    least: int = 3
    smaller: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def scales(self) -> tuple[str, ...]:
        """Those of the study."""
        return tuple(read_study(self.built_in).scales)

    def of_scale(self, scale: str) -> tuple[Cell, ...]:
        """The cells that the networks of a scale give numbers for."""
        if scale not in self.scales:
            return ()
        if scale not in self.smaller:
            return self.cells
        return tuple(cell for cell in self.cells if is_named(cell, self.smaller[scale]))

    def command(self, cell: Cell, scale: str) -> str:
        """The command that runs the study."""
        return f"steppe study run {self.built_in} --scale {scale}"

    def study(self, request: Request, store: Store) -> StoredStudy:
        """The study at a scale."""
        from steppe_lab.studies.opening import named_study

        return named_study(store, self.built_in, scale=request.scale)

    def ours(self, request: Request, study: StoredStudy | None) -> Mapping[str, Ours]:
        """Statistics of the rows at hand."""
        assert study is not None
        table = study.table()
        rows = len(next(iter(table.columns.values()), ()))
        if rows < self.least:
            why = f"{rows} networks in the table, {self.least} are needed"
            return {cell.name: Ours(why_not=why) for cell in self.chosen(request)}
        statistics = self.statistics(table)
        names = {cell.name for cell in self.chosen(request)}
        return {name: each for name, each in statistics.items() if name in names}


def correlation(tau: AbstractStatistic) -> Ours:
    """A correlation as our number; its interval is over the configurations.

    Where it has no interval, all that it can be is within it.
    """
    if math.isnan(tau.value):
        return Ours(why_not="one of the two columns does not vary here")
    low, high = (-1.0, 1.0) if math.isnan(tau.low) else (tau.low, tau.high)
    return Ours(value=Interval(tau.value, low, high, tau.clusters))
