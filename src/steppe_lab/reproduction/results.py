"""Results of an experiment: our numbers beside the published ones, with verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steppe_lab.reproduction.claims import AbstractClaim, Request
from steppe_lab.reproduction.experiment import Experiment
from steppe_lab.reproduction.published import Cell, Published
from steppe_lab.reproduction.verdicts import (
    FULL,
    VERDICTS,
    Ours,
    Verdict,
    verdict_on,
)

if TYPE_CHECKING:
    from steppe_lab.studies.stored import StoredStudy


@dataclass(frozen=True, kw_only=True)
class Row:
    """A cell with its numbers and its verdict.

    Args:
        cell: of the claim.
        published: the number; None where the source states none.
        ours: our numbers.
        verdict: on both.
        command: that makes our number; "" where none of steppe does.
    """

    cell: Cell
    published: Published | None
    ours: Ours
    verdict: Verdict
    command: str = ""


@dataclass(frozen=True, kw_only=True)
class ClaimResult:
    """The rows of a claim.

    Args:
        claim: the claim.
        rows: cells that were asked for, in the order of the source.
        elsewhere: cells that other scales have, and nobody asked for by name.
        study: name of the study of its runs in the store; "" for none.
        failure: the reason for which the work of the claim did not begin; "" for none.
    """

    claim: AbstractClaim
    rows: tuple[Row, ...]
    elsewhere: int = 0
    study: str = ""
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class ExperimentResult:
    """All that was learnt about the claims of an experiment."""

    experiment: Experiment
    request: Request
    claims: tuple[ClaimResult, ...]

    def counts(self) -> dict[Verdict, int]:
        """Rows by verdict, those that occur, in the order of VERDICTS."""
        counted = Counter(row.verdict for each in self.claims for row in each.rows)
        return {name: counted[name] for name in VERDICTS if counted[name]}


def results_of(
    claim: AbstractClaim,
    request: Request,
    study: StoredStudy | None,
    failure: str = "",
    *,
    ours: Mapping[str, Ours] | None = None,
) -> ClaimResult:
    """Our numbers for the cells that are asked for, with verdicts.

    Args:
        claim: the claim.
        request: what is asked of it.
        study: of its runs, from `claim.study`; not all need be finished.
        failure: the reason for which its work did not begin.
        ours: our numbers by cell, of these cells at least; None for those of the claim.
    """
    chosen, beyond = claim.chosen(request), claim.beyond(request)
    published = claim.published()
    if ours is None:
        ours = claim.ours(request, study) if chosen and not failure else {}
    # Training-free numbers are those of the published size at every scale.
    comparable = request.scale == FULL or study is None
    rows = [
        Row(
            cell=cell,
            published=published.get(cell.name),
            ours=own.cut(claim.quantity),
            verdict=verdict_on(
                published.get(cell.name),
                own,
                tolerance=claim.tolerance,
                comparable=comparable,
            ),
            command=claim.command(cell, request.scale),
        )
        for cell in chosen
        for own in (ours.get(cell.name, Ours(why_not=failure or "no result")),)
    ]
    why = f"no cell of the scale {request.scale}"
    rows += [
        Row(
            cell=cell,
            published=published.get(cell.name),
            ours=Ours(why_not=why),
            verdict="not run at this scale",
        )
        for cell in beyond
    ]
    asked = bool(request.cells)
    return ClaimResult(
        claim=claim,
        rows=tuple(rows),
        elsewhere=0 if asked else len(claim.cells) - len(chosen),
        study="" if study is None else study.settings.stored_name,
        failure=failure,
    )
