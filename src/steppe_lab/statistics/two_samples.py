"""Whether two groups of networks have the same distribution of a value.

Source: Kolmogorov, 1933, and Smirnov, 1948, doi:10.1214/aoms/1177730256; computed by
scipy, exactly for small groups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from steppe.errors import DataError
from steppe_lab.statistics.result import AbstractStatistic
from steppe_lab.statistics.tables import Table, complete


@dataclass(frozen=True, kw_only=True)
class TwoSamples(AbstractStatistic):
    """Largest difference of two distribution functions (`value`, 0 to 1), and its p."""

    left: Any  # level of the group
    right: Any
    left_rows: int
    right_rows: int

    def __str__(self) -> str:
        return f"D = {self.value:.3f}, p = {self.p:.2g}"


def two_sample_ks(table: Table, column: str, group: str) -> TwoSamples:
    """Two-sided test of Kolmogorov and Smirnov for two groups of rows.

    Args:
        table: columns by name.
        column: of numbers; rows without a value are left out.
        group: column with two levels. Rows count as independent: average over seeds
            first where a configuration has several.

    Raises:
        DataError: no such column, a text among numbers, or no two levels.

    Example:
        >>> table = {"error": [1, 2, 3, 4, 5, 6], "sam": [1, 1, 1, 0, 0, 0]}
        >>> print(two_sample_ks(table, "error", "sam"))
        D = 1.000, p = 0.1
    """
    from scipy.stats import ks_2samp

    rows = complete(table, [column], [group])
    values, levels = rows.numbers[column], rows.factors[group]
    if len(levels) != 2:
        listed = ", ".join(map(str, levels.names[:10])) or "none"
        raise DataError(
            f"{group} must have two levels, got {len(levels)} ({listed}); name a "
            "column that puts each row into one of two groups."
        )
    left, right = (values[levels.codes == place] for place in (0, 1))
    test = ks_2samp(left, right)
    return TwoSamples(
        value=float(test.statistic),
        p=float(test.pvalue),
        rows=len(rows),
        clusters=len(rows),
        notes=rows.notes,
        left=levels.names[0],
        right=levels.names[1],
        left_rows=len(left),
        right_rows=len(right),
    )
