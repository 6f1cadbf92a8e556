"""The spectrum of a matrix of independent entries, against which others are read."""

from __future__ import annotations

import math

TRACY_WIDOM_95 = 0.9793  # 95 % quantile of the law of order 1


def bulk_edge(rows: int, columns: int, variance: float) -> float:
    """Upper end of the eigenvalues of W'W for large W, as Marchenko and Pastur have it.

    Source: Marchenko and Pastur, 1967, doi:10.1070/SM1967v001n04ABEH001994.

    Args:
        rows: of W; rows and columns may change places.
        columns: of W.
        variance: of the entries, which are independent and of mean 0.
    """
    return variance * (math.sqrt(rows) + math.sqrt(columns)) ** 2


def largest_by_chance(rows: int, columns: int, variance: float) -> float:
    """Eigenvalue of W'W that a random W of finite size exceeds once in twenty times.

    Source: Johnstone, 2001, doi:10.1214/aos/1009210544, Theorem 1.1, with the 95 %
    quantile of the Tracy-Widom law of order 1.

    Args:
        rows: of W; rows and columns may change places.
        columns: of W.
        variance: of the entries.
    """
    longer, shorter = max(rows, columns), min(rows, columns)
    # A single row would be divided by; it has no fluctuation of an edge.
    first = math.sqrt(max(longer - 1, 1))
    second = math.sqrt(shorter)
    centre = (first + second) ** 2
    width = (first + second) * math.cbrt(1 / first + 1 / second)
    return variance * (centre + TRACY_WIDOM_95 * width)
