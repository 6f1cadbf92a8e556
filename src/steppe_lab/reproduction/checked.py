"""Claims about files that others published: their numbers come out, or do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from steppe.errors import SteppeError
from steppe_lab.reproduction.claims import AbstractClaim, Request
from steppe_lab.reproduction.published import Cell
from steppe_lab.reproduction.verdicts import FULL, Ours

if TYPE_CHECKING:
    from steppe_lab.store.store import Store
    from steppe_lab.studies.stored import StoredStudy


@dataclass(frozen=True, kw_only=True)
class FilesClaim(AbstractClaim):
    """A claim whose numbers follow from published files, in seconds.

    All scales are the published one.

    Args:
        files: that are read, by their paths within the data folder.
        origin: where they are published, for the sentence on a missing one.
        check: reads them, from the data folder, and gives our numbers by cell.
        commands: of steppe that give our numbers too, by cell.
    """

    files: tuple[str, ...]
    origin: str
    check: Callable[[Path], Mapping[str, Ours]]
    commands: Mapping[str, str] = field(default_factory=dict)

    @property
    def scales(self) -> tuple[str, ...]:
        """All of them, which are one."""
        return ("smoke", "laptop", FULL)

    def of_scale(self, scale: str) -> tuple[Cell, ...]:
        """All cells."""
        return self.cells if scale in self.scales else ()

    def command(self, cell: Cell, scale: str) -> str:
        """A command that gives our number too, where there is one."""
        return self.commands.get(cell.name, "")

    def study(self, request: Request, store: Store) -> StoredStudy | None:
        """Nothing is run in a store."""
        return None

    def ours(self, request: Request, study: StoredStudy | None) -> Mapping[str, Ours]:
        """Numbers from the files; without them, the reason."""
        from steppe_lab.datasets.loading import folder_of_data

        folder = folder_of_data() or Path()
        cells = [cell.name for cell in self.chosen(request)]
        for name in self.files:
            if not (folder / name).exists():
                why = (
                    f"needs {name} in {folder}, from {self.origin}; name the folder "
                    "that holds it with --data-dir DIR"
                )
                return dict.fromkeys(cells, Ours(why_not=why))
        try:
            ours = self.check(folder)
        except SteppeError as error:
            return dict.fromkeys(cells, Ours(why_not=str(error).rstrip(".")))
        return {name: each for name, each in ours.items() if name in cells}
