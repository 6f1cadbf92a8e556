"""Results of an experiment: our numbers beside the published ones, with verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from steppe_lab.reproduction.claims import AbstractClaim, Request
from steppe_lab.reproduction.experiment import Experiment
from steppe_lab.reproduction.published import Cell
from steppe_lab.reproduction.verdicts import FULL, Ours, Verdict, verdict_on
from steppe_lab.statistics.intervals import Interval
from steppe_lab.studies.stored import StoredStudy

NOT_OF_SCALE = "not a cell of this scale"


@dataclass(frozen=True)
class Row:
    """A cell with its numbers and its verdict."""

    cell: Cell
    ours: Ours
    verdict: Verdict


@dataclass(frozen=True)
class ClaimResult:
    """The rows of a claim."""

    claim: AbstractClaim
    rows: tuple[Row, ...]

    def counts(self) -> dict[Verdict, int]:
        """Rows by verdict."""
        return dict(Counter(row.verdict for row in self.rows))


@dataclass(frozen=True)
class ExperimentResult:
    """All that was found out about the claims of an experiment."""

    experiment: Experiment
    request: Request
    claims: tuple[ClaimResult, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON has it; None stands for what has no number."""
        return {
            "experiment": self.experiment.name,
            "source": self.experiment.source,
            "scale": self.request.scale,
            "claims": {
                result.claim.name: {
                    "title": result.claim.title,
                    "source": result.claim.source,
                    "quantity": result.claim.quantity.title,
                    "units": result.claim.quantity.units,
                    "tolerance": result.claim.tolerance,
                    "rows": [_record(row) for row in result.rows],
                }
                for result in self.claims
            },
        }


def results_of(
    claim: AbstractClaim, request: Request, study: StoredStudy | None
) -> ClaimResult:
    """Our numbers for the cells that are asked for, with verdicts.

    Args:
        claim: the claim.
        request: what is asked of it.
        study: of its runs, from `claim.study`; not all need be finished.
    """
    ours = claim.ours(request, study)
    # Training-free numbers are those of the published size at every scale.
    comparable = request.scale == FULL or study is None
    rows = []
    for cell in claim.chosen(request):
        own = ours.get(cell.name, Ours(why_not="no result"))
        verdict = verdict_on(
            cell.published, own, tolerance=claim.tolerance, comparable=comparable
        )
        rows.append(Row(cell, own, verdict))
    return ClaimResult(claim, tuple(rows))


def chosen_claims(
    experiment: Experiment, names: Sequence[str]
) -> tuple[AbstractClaim, ...]:
    """Claims by name; all where none is named.

    Raises:
        UnknownNameError: a name that no claim has.
    """
    return tuple(map(experiment.claim, names)) if names else experiment.claims


def _record(row: Row) -> Mapping[str, Any]:
    published = row.cell.published
    return {
        "cell": row.cell.name,
        "published": None if published is None else published.value,
        "published_half_width": None if published is None else published.half_width,
        "published_runs": None if published is None else published.runs,
        "note": "" if published is None else published.note,
        "ours": _interval(row.ours.value),
        "ours_by_published_protocol": _interval(row.ours.protocol),
        "why_not": row.ours.why_not,
        "verdict": row.verdict,
    }


def _interval(interval: Interval | None) -> dict[str, float | int] | None:
    if interval is None:
        return None
    return {
        "mean": interval.mean,
        "low": interval.low,
        "high": interval.high,
        "runs": interval.count,
    }
