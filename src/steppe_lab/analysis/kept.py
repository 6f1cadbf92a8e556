"""Results that are written as they come, and known to the next call.

One file for each set of things that they follow from, in which every result is a line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from steppe.batches import UNKNOWN
from steppe.errors import StoreError
from steppe.objective import Objective
from steppe_lab.store import journal

T = TypeVar("T")


class Kept(Mapping[str, T]):
    """Results by key, those of earlier calls and those of this one.

    Args:
        path: of the file; None for nowhere.
        objective: that they are of.
        noun: of one of them, such as "measurement".
        field: name of a result in the lines of the file.
        read: a result from its record.
        failed: called once with the reason where nothing can be kept.
    """

    def __init__(
        self,
        path: Path | None,
        objective: Objective,
        noun: str,
        field: str,
        read: Callable[[Any], T],
        failed: Callable[[str], object],
    ) -> None:
        self.path = path
        self._noun, self._field = noun, field
        # None where nothing can be kept, or no more.
        self._failed = failed if path is not None else None
        self._results: dict[str, T] = {}
        self._before: set[str] = set()  # keys that earlier calls had finished
        self._used: set[str] = set()  # of these, those that were asked for
        if path is None:
            return
        if objective.digest.startswith(UNKNOWN):
            self._give_up("batches of other things than tensors cannot be recognized")
            return
        try:
            for record in journal.records(path):
                self._results[record["asked"]] = read(record[field])
        except StoreError as error:
            self._give_up(str(error))
        self._before = set(self._results)

    def __contains__(self, key: object) -> bool:
        return key in self._results

    def __iter__(self) -> Iterator[str]:
        return iter(self._results)

    def __len__(self) -> int:
        return len(self._results)

    def __getitem__(self, key: str) -> T:
        self._used |= {key} & self._before
        return self._results[key]

    def add(self, key: str, result: T, record: Any) -> None:
        """Note a result, and write its record; None is not written."""
        self._results[key] = result
        if self._failed is None or self.path is None or record is None:
            return
        try:
            journal.append(self.path, {"asked": key, self._field: record})
        except StoreError as error:
            self._give_up(str(error))

    @property
    def before(self) -> int:
        """Number of results of earlier calls that were asked for."""
        return len(self._used)

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence on results of earlier calls, without a full stop."""
        if not self.before:
            return ()
        several = f"{self.before} {self._noun}s were"
        many = several if self.before > 1 else f"1 {self._noun} was"
        return (f"{many} finished before, and read from {self.path}",)

    def _give_up(self, reason: str) -> None:
        if self._failed is not None:
            self._failed(f"finished {self._noun}s are not kept: {reason}")
        self._failed = None
