"""The interface of claims, and what a command asks of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from steppe.errors import SettingError
from steppe.registry.registry import unknown_name
from steppe_lab.reproduction.published import Cell, Quantity
from steppe_lab.reproduction.verdicts import FULL, Ours
from steppe_lab.store.store import Store
from steppe_lab.studies.stored import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is asked of a claim.

    Args:
        scale: smoke, laptop or full.
        cells: names of cells, or beginnings of them that end before a slash; empty
            for all of the scale.
        seeds: of each training; None for as many as the scale has.
    """

    scale: str = FULL
    cells: tuple[str, ...] = ()
    seeds: int | None = None


@dataclass(frozen=True, kw_only=True)
class AbstractClaim(ABC):
    """A claim: published numbers of one kind, and how they are made.

    Args:
        name: in commands, such as table3.
        title: what is claimed, a phrase without a full stop.
        source: where the numbers stand, such as "Table 3".
        quantity: that the numbers are of.
        tolerance: the largest difference to a published number that counts as
            reproduced, in its units.
        reproduced: what "reproduced" means here, a sentence.
        cells: rows, in the order of the source.
        caveats: sentences that a reader of the numbers must know.
    """

    name: str
    title: str
    source: str
    quantity: Quantity
    tolerance: float
    reproduced: str
    cells: tuple[Cell, ...]
    caveats: tuple[str, ...] = field(default=())

    @property
    @abstractmethod
    def scales(self) -> tuple[str, ...]:
        """Names of the sizes it can be tested at."""

    @abstractmethod
    def study(self, request: Request, store: Store) -> StoredStudy | None:
        """The runs that give our numbers; None where nothing is run in a store.

        Raises:
            SettingError: a setting that has no meaning.
        """

    @abstractmethod
    def ours(self, request: Request, study: StoredStudy | None) -> Mapping[str, Ours]:
        """Our numbers by cell, from the results at hand; cells without runs lack.

        Args:
            request: what is asked.
            study: from `study`, some of whose runs may not be finished.
        """

    def check_scale(self, scale: str) -> None:
        """Refuse a scale that the claim does not have.

        Raises:
            UnknownNameError: no such scale.
        """
        if scale not in self.scales:
            raise unknown_name(f"scale of {self.name}", scale, self.scales)

    def chosen(self, request: Request) -> tuple[Cell, ...]:
        """The cells that are asked for.

        Raises:
            SettingError: a name that no cell has.
        """
        return chosen_cells(self.cells, request.cells)


def chosen_cells(cells: Sequence[Cell], asked: Sequence[str]) -> tuple[Cell, ...]:
    """Cells of some names, or of names that begin so; all where none is asked for.

    Raises:
        SettingError: a name that no cell has.
    """
    if not asked:
        return tuple(cells)
    for name in asked:
        if not any(_begins(cell.name, name) for cell in cells):
            names = ", ".join(cell.name for cell in cells[:12])
            more = f" and {len(cells) - 12} more" if len(cells) > 12 else ""
            raise SettingError(f"no cell is named {name}; they are {names}{more}.")
    return tuple(c for c in cells if any(_begins(c.name, name) for name in asked))


def _begins(name: str, with_words: str) -> bool:
    return name == with_words or name.startswith(f"{with_words}/")
