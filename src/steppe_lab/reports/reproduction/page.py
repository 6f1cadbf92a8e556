"""An experiment as one HTML page that needs nothing else, not even its script."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from steppe.pages.attachment import Attachment, attached
from steppe.pages.picture import Picture
from steppe.pages.templating import template
from steppe_lab.reports.reproduction.pictures import pictures
from steppe_lab.reports.reproduction.record import result_csv, result_record
from steppe_lab.reports.reproduction.sentences import answer, going_on, remarks
from steppe_lab.reports.reproduction.tables import result_table
from steppe_lab.reports.text.cells import CellTable
from steppe_lab.reports.text.words import capitalised
from steppe_lab.reproduction.results import ClaimResult, ExperimentResult
from steppe_lab.store.json_files import json_line

_HOME = "steppe_lab.reports.reproduction"
QUESTION = "Do the published numbers come out?"


@dataclass(frozen=True)
class Part:
    """The sections of one claim."""

    result: ClaimResult
    title: str
    table: CellTable
    pictures: list[Picture]
    remarks: list[str]
    commands: dict[str, list[str]]  # cells that a command is for


def render(
    result: ExperimentResult,
    *,
    command: str,
    versions: Mapping[str, str],
    written: date | None = None,
) -> str:
    """The page.

    Args:
        result: of the experiment; claims may be without numbers.
        command: makes the page again.
        versions: of the packages that made it.
        written: its date; None for today.
    """
    experiment = result.experiment
    parts = [_part(each) for each in result.claims]
    more = going_on(result)
    return template("reproduction.html.j2", _HOME).render(
        verb="reproduce",
        title=experiment.title,
        facts=_facts(result),
        question=QUESTION,
        answer=[*answer(result), *([more] if more else [])],
        notes=experiment.notes,
        contents=[
            ("answer", "Answer"),
            *((part.result.claim.name, part.result.claim.name) for part in parts),
            ("measured", "How it was judged"),
            ("again", "Make it again"),
        ],
        files=_files(result),
        pictures=[],
        parts=parts,
        command=command,
        versions=versions,
        origins=[],
        written=(written or date.today()).isoformat(),
    )


def _part(each: ClaimResult) -> Part:
    commands: dict[str, list[str]] = {}
    for row in each.rows:
        if row.command:
            commands.setdefault(row.command, []).append(row.cell.name)
    title = capitalised(each.claim.title)
    table = result_table(each)
    return Part(each, title, table, pictures(each), remarks(each), commands)


def _files(result: ExperimentResult) -> list[Attachment]:
    stem = f"{result.experiment.name}@{result.request.scale}"
    return [
        attached(
            f"{stem}.csv",
            result_csv(result),
            text="Numbers as CSV",
            what="numbers and verdicts",
            beside=False,
        ),
        attached(
            f"{stem}.json",
            json_line(result_record(result)),
            text="Numbers as JSON",
            what="same as JSON",
            beside=False,
        ),
    ]


def _facts(result: ExperimentResult) -> list[tuple[str, str]]:
    cells = sum(len(each.rows) for each in result.claims)
    return [
        ("source", result.experiment.source),
        ("scale", result.request.scale),
        ("claims", f"{len(result.claims):,}"),
        ("cells", f"{cells:,}"),
    ]
