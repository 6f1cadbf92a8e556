"""The interface of claims, and requests that a command makes of them.

Claims are declared without torch, so that they are listed at once; their work imports
it in the functions that do it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from steppe_lab.reproduction.published import (
    Cell,
    Published,
    PublishedFile,
    Quantity,
)
from steppe_lab.reproduction.verdicts import FULL, Ours

if TYPE_CHECKING:
    from steppe_lab.store.store import Store
    from steppe_lab.studies.stored import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request for numbers of a claim.

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
        published_in: files of the user that hold published numbers, which then are not
            those of the cells.
    """

    name: str
    title: str
    source: str
    quantity: Quantity
    tolerance: float
    reproduced: str
    cells: tuple[Cell, ...]
    caveats: tuple[str, ...] = field(default=())
    published_in: tuple[PublishedFile, ...] = ()

    @property
    @abstractmethod
    def scales(self) -> tuple[str, ...]:
        """Names of the sizes it can be tested at."""

    @abstractmethod
    def of_scale(self, scale: str) -> tuple[Cell, ...]:
        """The cells that a scale has numbers of; none of a scale that it lacks."""

    @abstractmethod
    def command(self, cell: Cell, scale: str) -> str:
        """The command of steppe that makes our number of a cell; "" where none does."""

    @abstractmethod
    def study(self, request: Request, store: Store) -> StoredStudy | None:
        """The runs that give our numbers; None where nothing is run in a store.

        Some need the network of another run. Then that run alone is given at first,
        and the others when this is called again after it is finished.

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

    def chosen(self, request: Request) -> tuple[Cell, ...]:
        """The cells of the scale that are asked for."""
        return tuple(
            cell
            for cell in self.of_scale(request.scale)
            if not request.cells or is_named(cell, request.cells)
        )

    def beyond(self, request: Request) -> tuple[Cell, ...]:
        """Cells that are asked for by name, and that the scale does not have."""
        own = {cell.name for cell in self.of_scale(request.scale)}
        return tuple(
            cell
            for cell in self.cells
            if cell.name not in own and is_named(cell, request.cells)
        )

    def published(self) -> dict[str, Published]:
        """Published numbers by cell; of a file that is not there, none."""
        numbers = {
            each.name: each.published
            for each in self.cells
            if each.published is not None
        }
        for file in self.published_in:
            from steppe_lab.datasets.loading import folder_of_data

            folder = folder_of_data()
            path = None if folder is None else folder / file.path
            if path is not None and path.exists():
                numbers |= file.read(path)
        return numbers


def is_named(cell: Cell, asked: Sequence[str]) -> bool:
    """Whether a cell has one of some names, or begins with one before a slash."""
    return any(cell.name == a or cell.name.startswith(f"{a}/") for a in asked)
