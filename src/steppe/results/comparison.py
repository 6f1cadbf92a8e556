"""The difference between two networks in a measure, with its errors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from steppe.cost import Cost
from steppe.results.estimate import Estimate
from steppe.results.plain import plain
from steppe.results.tables import AbstractTabulated, Table, ends


@dataclass(frozen=True, kw_only=True, repr=False)
class Difference:
    """A measure of two objectives on the same data, and its difference a - b.

    Its errors are over other samples of the same population (`over_data`), over other
    random draws (`over_draws`), and over both (`total`); the samples of these estimates
    are the groups of the data, the repeats of the draws, and as many as have the
    degrees of freedom of the sum.
    """

    a: Estimate  # on all of the data
    b: Estimate
    over_data: Estimate
    over_draws: Estimate  # exact where nothing is drawn
    total: Estimate
    bias: float  # of a - b, of order 1 / N, not taken out: about 0 for means
    log_ratio: Estimate | None  # of a over b, as `total`; None unless all are positive
    level: float = 0.95  # of the intervals
    refusal: str = ""  # why it could not be compared; all values are NaN then

    @property
    def interval(self) -> tuple[float, float]:
        """Ends of the interval of a - b, over samples and draws."""
        return self.total.interval(self.level)

    @property
    def ratio(self) -> tuple[float, float, float] | None:
        """The ratio a / b with the ends of its interval, None where it has none."""
        if self.log_ratio is None:
            return None
        low, high = self.log_ratio.interval(self.level)
        return _exp(self.log_ratio.value), _exp(low), _exp(high)

    @property
    def is_clear(self) -> bool:
        """Whether the interval of a - b excludes 0."""
        low, high = self.interval
        return low > 0 or high < 0

    def verdict(self, a: str = "a", b: str = "b") -> str:
        """Sentence that the interval allows.

        Args:
            a: name of the first network.
            b: name of the second one.
        """
        if self.refusal:
            return "not compared"
        if not self.is_clear:
            return "no difference could be shown"
        return f"{a} is larger" if self.interval[0] > 0 else f"{b} is larger"

    def row(self) -> dict[str, Any]:
        """The numbers on one level, as a row of a table has them."""
        (low, high), missing = self.interval, (math.nan,) * 3
        ratio, ratio_low, ratio_high = self.ratio or missing
        return {
            "a": self.a.value,
            "b": self.b.value,
            "difference": self.total.value,
            "low": low,
            "high": high,
            "stderr": self.total.stderr,
            "stderr_over_data": self.over_data.stderr,
            "stderr_over_draws": self.over_draws.stderr,
            "bias": self.bias,
            "ratio": ratio,
            "ratio_low": ratio_low,
            "ratio_high": ratio_high,
            "level": self.level,
            "units": self.total.units,
            "converged": self.total.converged,
            "verdict": self.verdict(),
            "refusal": self.refusal,
        }

    def to_dict(self) -> dict[str, Any]:
        """The row and the estimates as JSON has them."""
        estimates = ("a", "b", "over_data", "over_draws", "total", "log_ratio")
        parts = {f"{name}_estimate": getattr(self, name) for name in estimates}
        return {**plain({**self.row(), **parts})}

    def __repr__(self) -> str:
        return f"Difference({self.total}: {self.verdict()})"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Comparison(AbstractTabulated, Mapping[str, Difference]):
    """Differences of two objectives by measure, which print as a table.

    `json.dumps(comparison.to_dict())` is JSON, `pandas.DataFrame(comparison.rows())` a
    data frame. Every interval stands for itself: among many measures, one in twenty
    intervals of 95 % misses by chance.
    """

    by_name: Mapping[str, Difference]
    names: tuple[str, str] = ("a", "b")
    units: int  # samples, or batches, that groups are made of
    unit: str  # "sample" or "batch"
    groups: int  # of the data, left out one at a time
    # Of both networks together, without that of measurements which were known.
    cost: Cost = field(default_factory=Cost)
    details: Mapping[str, Any] = field(default_factory=dict)  # what it is a function of

    def __getitem__(self, name: str) -> Difference:
        return self.by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.by_name)

    def __len__(self) -> int:
        return len(self.by_name)

    def rows(self) -> list[dict[str, Any]]:
        """One row for each measure, all with the same columns."""
        return [{"measure": name, **one.row()} for name, one in self.items()]

    def to_dict(self) -> dict[str, Any]:
        """All fields as JSON has them; numbers that are not finite are None."""
        fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        record = {**fields, "cost": dataclasses.asdict(self.cost)}
        return {"measures": plain(record.pop("by_name")), **plain(record)}

    def table(self) -> Table:
        """One row for each measure, and its verdict below."""
        level = next((one.level for one in self.values()), 0.95)
        columns = ("measure", *self.names, "difference", f"{100 * level:g} % interval")
        cells = [
            (name, str(one.a), str(one.b), str(one.total), ends(*one.interval))
            for name, one in self.items()
            if not one.refusal
        ]
        return Table(columns, cells, [*map(self._note, self), self.work])

    @property
    def work(self) -> str:
        """Sentence on the data and the cost."""
        kind = {"sample": "samples", "batch": "batches"}[self.unit]
        spent = f"{self.cost} of all data" if self.cost != Cost() else "measured before"
        return f"{self.units} {kind} in {self.groups} groups; {spent}."

    def _note(self, name: str) -> str:
        (first, second), one = self.names, self[name]
        note = f"{name}: {one.verdict(first, second)}"
        if one.refusal:
            return f"{note}: {one.refusal}"
        if one.ratio is not None:
            ratio, low, high = one.ratio
            within = ends(low, high, least=0.0)
            note += f"; {first} is {ratio:.3g} times {second} ({within})"
            if one.is_clear != (not low <= 1 <= high):
                # Both intervals are approximate; near their ends they may disagree.
                note += (
                    ", where one of the two intervals says otherwise: take it as open"
                )
        if one.over_draws.stderr:
            data, draws = _error(one.over_data), _error(one.over_draws)
            note += f"; standard error {data} over data, {draws} over draws"
        return f"{note}."


def _error(estimate: Estimate) -> str:
    known = math.isfinite(estimate.stderr)
    return f"{estimate.stderr:.2g}" if known else "not known"


def _exp(value: float) -> float:
    return math.inf if value >= 700 else math.exp(value)
