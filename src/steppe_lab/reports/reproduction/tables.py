"""Tables of claims: results, published numbers, and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from steppe_lab.reports.reproduction.numbers import (
    Places,
    count_text,
    interval_text,
    places_of,
    published_text,
    tolerance_text,
)
from steppe_lab.reports.text.cells import NONE, CellTable, TableCell
from steppe_lab.reproduction.claims import AbstractClaim
from steppe_lab.reproduction.results import ClaimResult, Row

if TYPE_CHECKING:
    from steppe_lab.reproduction.costs import ClaimCost

INTERVALS = (
    "; ± half a 95 % interval, in brackets its ends; seeds or runs in parentheses"
)


def result_table(result: ClaimResult) -> CellTable:
    """Published numbers beside ours, with verdicts."""
    claim = result.claim
    places = places_of((row.published for row in result.rows), claim.tolerance)
    two = any(row.ours.protocol is not None for row in result.rows)
    by_protocol = ("ours, published protocol",) if two else ()
    return CellTable(
        "Published numbers and ours",
        f"{quantity_text(claim)}{INTERVALS if any(map(_varies, result.rows)) else ''}",
        ("", "published", "ours", *by_protocol, "verdict"),
        tuple(_row(row, places, two) for row in result.rows),
    )


def list_table(claim: AbstractClaim) -> CellTable:
    """Cells of a claim with their published numbers, and the scales that have them."""
    published = claim.published()
    places = places_of(published.values(), claim.tolerance)
    of_scales = {s: {cell.name for cell in claim.of_scale(s)} for s in claim.scales}
    # Where all scales have all cells, the column would say nothing.
    apart = any(len(own) < len(claim.cells) for own in of_scales.values())
    rows = [
        (
            TableCell(cell.name),
            TableCell(published_text(published.get(cell.name), places)),
            TableCell(", ".join(s for s in of_scales if cell.name in of_scales[s])),
        )
        for cell in claim.cells
    ]
    heads = ("", "published", *(("scales",) if apart else ()))
    return CellTable(
        "", quantity_text(claim), heads, tuple(row[: len(heads)] for row in rows)
    )


def cost_table(costs: Sequence[ClaimCost]) -> CellTable:
    """Runs and cost of each claim, and of all, where shared runs count once."""
    # Lists of published numbers do not wait for torch.
    from steppe_lab.reproduction.costs import total_of

    rows = [*costs, total_of(costs)] if len(costs) > 1 else costs
    return CellTable(
        "",
        "single samples of the published data sets; measures at their default settings",
        (
            "",
            "cells",
            "trainings",
            "runs",
            "finished",
            "gradients",
            "forward passes",
            "parameters",
        ),
        tuple(_cost_row(each) for each in rows),
    )


def quantity_text(claim: AbstractClaim) -> str:
    """The quantity of a claim in words, with its units; of numbers, the tolerance."""
    units = f" in {claim.quantity.units}" if claim.quantity.units else ""
    text = f"{claim.quantity.title}{units}"
    if any(each.bound for each in claim.published().values()):
        return text
    return f"{text}, tolerance {tolerance_text(claim)}"


def _varies(row: Row) -> bool:
    """Whether a number of a row has an interval, or is of several runs."""
    published, ours = row.published, row.ours.value
    theirs = published is not None and (published.half_width or published.runs > 1)
    return bool(theirs or (ours is not None and ours.low < ours.high))


def _row(row: Row, places: Places, two: bool) -> tuple[TableCell, ...]:
    texts = [
        published_text(row.published, places),
        interval_text(row.ours.value, places),
    ]
    if two:
        texts.append(interval_text(row.ours.protocol, places))
    cells = [NONE if text == NONE.text else TableCell(text) for text in texts]
    strong = row.verdict in ("reproduced", "not reproduced")
    return (
        TableCell(row.cell.name),
        *cells,
        TableCell(row.verdict, strong=strong),
    )


def _cost_row(each: ClaimCost) -> tuple[TableCell, ...]:
    if each.failure:
        rest = [NONE] * 7
        return (TableCell(each.claim, small=each.failure), *rest)
    low, high = each.parameters or (0, 0)
    spread = f"{high:,}" if low == high else f"{low:,} to {high:,}"
    if not each.trainings:
        return (
            TableCell(each.claim),
            TableCell(f"{each.cells:,}"),
            *([TableCell("0")] * 3),
            *([NONE] * 3),
        )
    return (
        TableCell(each.claim),
        TableCell(f"{each.cells:,}"),
        TableCell(f"{each.trainings:,}"),
        TableCell(f"{each.runs:,}"),
        TableCell(f"{each.finished:,}"),
        TableCell(count_text(each.gradients)),
        TableCell(count_text(each.forwards + each.measured.forwards)),
        NONE if each.parameters is None else TableCell(spread),
    )
