"""Pictures of claims: published numbers and ours, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial

from steppe import plots
from steppe.pages.picture import Picture, pictured
from steppe.plots.names import cut
from steppe_lab.reports.reproduction.numbers import (
    interval_text,
    places_of,
    published_text,
)
from steppe_lab.reports.reproduction.sentences import CHECK
from steppe_lab.reproduction.results import ClaimResult, Row

MOST = 30  # cells of one picture
LETTERS = 24  # of the name of a cell
CAPTION = (
    "Dots are published numbers and ours; bars are 95 % intervals, where there are any."
)
BOUNDED = " Where a side alone is published, its dot is the bound of that side."
SMALLER = " Ours are of smaller networks and trainings: the two are not comparable."
PUBLISHED, OURS, PROTOCOL = "published", "ours", "ours, published protocol"


def pictures(result: ClaimResult) -> list[Picture]:
    """Pictures of a claim with two or more cells that have both numbers."""
    rows = [
        row
        for row in result.rows
        if row.published is not None and row.ours.value is not None
    ]
    if len(rows) < 2:
        return []
    groups: dict[str, list[Row]] = {}
    for row in rows:
        first = row.cell.name.partition("/")[0] if len(rows) > MOST else ""
        groups.setdefault(first, []).append(row)
    return [
        _picture(result, first, part)
        for first, own in groups.items()
        for part in _parts(own)
    ]


def _parts(rows: Sequence[Row]) -> Iterator[Sequence[Row]]:
    """Rows in parts of about one size, which a picture has room for."""
    size = -(-len(rows) // -(-len(rows) // MOST))
    return (rows[place : place + size] for place in range(0, len(rows), size))


def _picture(result: ClaimResult, first: str, rows: Sequence[Row]) -> Picture:
    claim = result.claim
    places = places_of((row.published for row in rows), claim.tolerance)
    values: dict[str, dict[str, tuple[float, float, float]]] = {}
    words = []
    # The end of a name tells cells of one table apart.
    whole = (row.cell.name.removeprefix(f"{first}/") for row in rows)
    for name, row in zip(cut(whole, LETTERS, "start"), rows, strict=True):
        assert row.published is not None
        assert row.ours.value is not None
        half = row.published.half_width or math.nan
        value = row.published.value
        values.setdefault(PUBLISHED, {})[name] = (value, value - half, value + half)
        for kind, interval in (
            (OURS, row.ours.value),
            (PROTOCOL, row.ours.protocol),
        ):
            if interval is not None:
                ends = (interval.mean, interval.low, interval.high)
                values.setdefault(kind, {})[name] = ends
        words.append(
            f"{row.cell.name} {published_text(row.published, places)} and "
            f"{interval_text(row.ours.value, places)}"
        )
    units = f" ({claim.quantity.units})" if claim.quantity.units else ""
    return pictured(
        partial(
            plots.intervals,
            values,
            xlabel=f"{claim.quantity.title}{units}",
            zero=None,
        ),
        title=f"{claim.name}, {first}" if first else claim.name,
        caption=_caption(rows),
        alt=f"{claim.quantity.title}, published and ours: {'; '.join(words)}.",
    )


def _caption(rows: Sequence[Row]) -> str:
    """Words on the marks, on bounds, and on numbers that are not of published size."""
    bounded = any(row.published is not None and row.published.bound for row in rows)
    smaller = any(row.verdict == CHECK for row in rows)
    return CAPTION + (BOUNDED if bounded else "") + (SMALLER if smaller else "")
