"""Estimates of several quantities, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steppe.results.estimate import Estimate
from steppe.results.tables import AbstractTabulated, Table


@dataclass(frozen=True, eq=False, repr=False)
class Estimates(AbstractTabulated, Mapping[str, Estimate]):
    """Estimates by name, which print as a table.

    `json.dumps(estimates.to_dict())` is JSON, `pandas.DataFrame(estimates.rows())` a
    data frame, and the rows are those of `csv.DictWriter` too.
    """

    by_name: Mapping[str, Estimate]

    def __getitem__(self, name: str) -> Estimate:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """All estimates as JSON has them; see `Estimate.to_dict`."""
        return {name: estimate.to_dict() for name, estimate in self.items()}

    @classmethod
    def from_dict(cls, record: Mapping[str, Mapping[str, Any]]) -> Estimates:
        """The estimates that `to_dict` gave; see `Estimate.from_dict`."""
        return cls({name: Estimate.from_dict(one) for name, one in record.items()})

    def rows(self) -> list[dict[str, Any]]:
        """One row for each estimate, all with the same columns."""
        return [{"measure": name, **estimate.row()} for name, estimate in self.items()]

    def table(self) -> Table:
        """One row for each estimate, and a sentence for each refusal."""
        measured = [(name, e) for name, e in self.items() if not e.refusal]
        refused = [(name, e.refusal) for name, e in self.items() if e.refusal]
        return Table(
            ("measure", "value", "samples", "units"),
            [(n, str(e), str(e.samples or "none"), e.units) for n, e in measured],
            [f"{name} was not measured: {refusal}" for name, refusal in refused],
        )
