"""Comparisons of one network with several others, by the names of these."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from steppe.results.comparison import Comparison
from steppe.results.estimate import Estimate
from steppe.results.tables import (
    AbstractTabulated,
    Table,
    aligned,
    ends,
    joined,
    with_error,
)

WIDTH = 100  # letters of a line


@dataclass(frozen=True, eq=False, repr=False)
class Comparisons(AbstractTabulated, Mapping[str, Comparison]):
    """Comparisons of the first network with each of the others, by their names.

    They print as one table, with a row for each network and measure. Every interval
    stands for itself: among many, one in twenty intervals of 95 % misses by chance.
    """

    by_name: Mapping[str, Comparison]

    def __getitem__(self, name: str) -> Comparison:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    @property
    def first(self) -> str:
        """Name of the network that all others are compared with."""
        return next(iter(self.values())).names[0]

    def rows(self) -> list[dict[str, Any]]:
        """One row for each further network and measure, all with the same columns."""
        return [
            {"first": self.first, "network": name, **row}
            for name, comparison in self.items()
            for row in comparison.rows()
        ]

    def to_dict(self) -> dict[str, Any]:
        """All comparisons as JSON has them; see `Comparison.to_dict`."""
        return {name: comparison.to_dict() for name, comparison in self.items()}

    def refusals(self) -> list[str]:
        """A sentence for each measure and reason, with all networks that it refused."""
        reasons: dict[tuple[str, str], list[str]] = {}
        for name, comparison in self.items():
            for measure, one in comparison.items():
                if one.refusal:
                    reasons.setdefault((measure, one.refusal), []).append(name)
        return [
            f"{measure} was not compared in {joined(names)}: {reason}"
            for (measure, reason), names in reasons.items()
        ]

    def table(self) -> Table:
        """The table of a single comparison, or one row for each network and measure."""
        several = list(self.values())
        if len(several) == 1:
            return several[0].table()
        rows = [row for measure in several[0] for row in self._rows(measure)]
        names, networks, values, differences, intervals, verdicts = zip(
            *rows, strict=True
        )
        columns = zip(
            *(names, networks, aligned(values), aligned(differences)),
            *(intervals, verdicts),
            strict=True,
        )
        level = next(iter(several[0].values())).level
        head = ("measure", "network", "value", f"minus {self.first}")
        return Table(
            (*head, f"{100 * level:g} % interval", ""),
            list(columns),
            [*self.refusals(), several[0].work],
            most=len(rows),
            width=WIDTH,
        )

    def _rows(self, measure: str) -> Iterator[tuple[str, ...]]:
        """The first network, then each other one with its difference to it."""
        one = next(iter(self.values()))[measure]
        yield measure, self.first, _value(one.a), "", "", ""
        for name, comparison in self.items():
            one = comparison[measure]
            if one.refusal:
                yield "", name, _value(one.b), "", "", "not compared"
                continue
            low, high = (-end for end in reversed(one.interval))
            clear = "clear" if one.is_clear else ""
            difference = _value(-one.total)
            yield "", name, _value(one.b), difference, ends(low, high), clear


def _value(estimate: Estimate) -> str:
    """The number alone: refusals are sentences below the table."""
    return "" if estimate.refusal else with_error(estimate.value, estimate.stderr)
