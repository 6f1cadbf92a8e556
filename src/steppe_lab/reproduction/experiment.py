"""Experiments: the claims of one paper, or of one code that was published."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from steppe.errors import SettingError
from steppe.registry.registry import unknown_name
from steppe_lab.reproduction.claims import AbstractClaim, is_named


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The claims of one source.

    Args:
        name: in commands, such as bisla2022_lpf_sgd.
        title: of the source.
        source: authors, year, and where it is.
        claims: in the order of the source.
        notes: sentences that hold for all of them.

    Raises:
        SettingError: two claims of one name, or two cells of one name in a claim.
    """

    name: str
    title: str
    source: str
    claims: tuple[AbstractClaim, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _check_once(f"claims of {self.name}", [claim.name for claim in self.claims])
        for claim in self.claims:
            cells = [cell.name for cell in claim.cells]
            _check_once(f"cells of {self.name} {claim.name}", cells)

    def claim(self, name: str) -> AbstractClaim:
        """The claim of a name.

        Raises:
            UnknownNameError: no such claim, with the nearest one.
        """
        by_name = {claim.name: claim for claim in self.claims}
        if name not in by_name:
            raise unknown_name(f"claim of {self.name}", name, by_name)
        return by_name[name]

    def chosen(
        self, names: Sequence[str] = (), cells: Sequence[str] = ()
    ) -> tuple[AbstractClaim, ...]:
        """Claims of some names that have some cells; all where nothing is asked for.

        Args:
            names: of claims.
            cells: names of cells, or beginnings of them that end before a slash.

        Raises:
            UnknownNameError: a name that no claim has.
            SettingError: a cell that none of these claims has, with the nearest one.
        """
        asked = {self.claim(name).name for name in names}
        among = [each for each in self.claims if not asked or each.name in asked]
        of_claims = [cell for each in among for cell in each.cells]
        for name in cells:
            if not any(is_named(cell, (name,)) for cell in of_claims):
                raise _no_cell(name, [cell.name for cell in of_claims])
        return tuple(
            each
            for each in among
            if not cells or any(is_named(cell, cells) for cell in each.cells)
        )


def _no_cell(name: str, known: list[str]) -> SettingError:
    """One sentence on a name of no cell."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    shown = ", ".join(near or known[:3])
    hint = f"did you mean {shown}?" if near else f"the first are {shown};"
    return SettingError(f"no cell is named {name}: {hint} see --list.")


def _check_once(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingError(f"{what} must have one name each, got {twice[0]} twice.")
