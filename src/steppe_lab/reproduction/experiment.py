"""Experiments: the claims of one paper, or of one code that was published."""

from __future__ import annotations

from dataclasses import dataclass

from steppe.errors import SettingError
from steppe.registry.registry import unknown_name
from steppe_lab.reproduction.claims import AbstractClaim


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


def _check_once(what: str, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SettingError(f"{what} must have one name each, got {twice[0]} twice.")
