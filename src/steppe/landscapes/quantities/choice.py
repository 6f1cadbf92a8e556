"""Quantities by name, or as objects of their own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from steppe.errors import SettingError, brief
from steppe.landscapes.quantities.points import KNOWN, Known, PointQuantity
from steppe.landscapes.quantities.samples import (
    Accuracy,
    SampleMean,
    class_losses,
    loss_terms,
)
from steppe.objective import Objective

Quantity = str | SampleMean | PointQuantity

OF_SAMPLES: dict[str, Callable[[Objective], Sequence[Any]]] = {
    "accuracy": lambda objective: [Accuracy(objective)],
    "class_losses": class_losses,
    "loss_terms": loss_terms,
}
TAKEN = ("loss", "stderr", "rise_stderr", "subset_stderr", "penalty", "computed")


@dataclass(frozen=True)
class Chosen:
    """Quantities that were asked for, in their order."""

    entries: tuple[Any, ...]  # names, and objects with `values` or `at`

    def of_samples(self, objective: Objective) -> list[Any]:
        """Those that are means over the samples of an objective."""
        several: list[Any] = []
        for entry in self.entries:
            if isinstance(entry, str):
                several += OF_SAMPLES[entry](objective) if entry in OF_SAMPLES else []
            elif _is_mean(entry):
                several.append(entry)
        return several

    def of_points(self) -> list[Known | PointQuantity]:
        """Those of the whole objective at a point."""
        several: list[Any] = [
            KNOWN[entry] if isinstance(entry, str) else entry
            for entry in self.entries
            if (entry in KNOWN if isinstance(entry, str) else not _is_mean(entry))
        ]
        return several


def chosen(quantities: Any) -> Chosen:
    """The quantities that a setting asks for.

    Args:
        quantities: a name, or several: names, `SampleMean`, `PointQuantity`, or other
            objects with a name, units and `values(evaluation)`.

    Raises:
        SettingError: an unknown name, another object, or a name that is taken.
    """
    entries = (quantities,) if isinstance(quantities, str) else quantities
    known = [*OF_SAMPLES, *KNOWN]
    if not isinstance(entries, list | tuple):
        raise SettingError(
            f"quantities must be names or a list of them, got {brief(quantities)}."
        )
    names = []
    for entry in entries:
        named = isinstance(entry, str)
        fits = entry in known if named else _is_mean(entry) or hasattr(entry, "at")
        if not fits or (not named and not isinstance(getattr(entry, "name", 0), str)):
            raise SettingError(
                f"a quantity must be one of {', '.join(known)}, or a SampleMean or "
                f"PointQuantity of steppe, got {brief(entry)}."
            )
        names.append(entry if named else entry.name)
    twice = [name for name in names if names.count(name) > 1 or name in TAKEN]
    if twice:
        raise SettingError(
            f"every quantity must have a name of its own, but {twice[0]!r} is taken; "
            "name it otherwise."
        )
    return Chosen(tuple(entries))


def _is_mean(entry: Any) -> bool:
    return callable(getattr(entry, "values", None))
