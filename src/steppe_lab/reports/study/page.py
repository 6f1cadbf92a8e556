"""Studies as one HTML page that needs nothing else, not even its script."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from steppe.pages.attachment import Attachment, attached
from steppe.pages.picture import Picture
from steppe.pages.templating import hash_of, source_of, template
from steppe_lab.reports.study import tables
from steppe_lab.reports.study.latex import latex_rows
from steppe_lab.reports.study.pictures import panels, pictures
from steppe_lab.reports.study.record import record, table_csv
from steppe_lab.reports.study.results import StudySummary
from steppe_lab.reports.study.sentences import answer
from steppe_lab.reports.study.terminal import within_factors
from steppe_lab.reports.study.typed_columns import typed_columns
from steppe_lab.reports.text.cells import CellTable
from steppe_lab.reports.text.numbers import listed, one_or_more
from steppe_lab.store.json_files import json_line

_HOME = "steppe_lab.reports.study"
QUESTION = "Do the measures say more about the gap than the hyper-parameters do?"
LISTED = 200  # trials of a reason that are named


@dataclass(frozen=True)
class Part:
    """The sections of one table."""

    key: str  # begins the places of its sections
    summary: StudySummary
    answer: list[str]
    numbers: str  # of the scatter, as JSON
    pictures: list[Picture]
    panels: list[Picture]
    prediction: CellTable
    by_factor: CellTable
    robustness: CellTable
    within: list[CellTable]
    splits: CellTable | None
    scores: CellTable | None
    robust: CellTable | None
    optima: CellTable | None
    levels: CellTable
    latex: str
    files: list[Attachment]


def render(
    summaries: Sequence[StudySummary],
    *,
    command: str,
    versions: Mapping[str, str],
    title: str = "",
    written: date | None = None,
) -> str:
    """The page.

    Args:
        summaries: one for each table; at least one.
        command: makes the page again.
        versions: of the packages that made it.
        title: of the page; empty for the names of the tables.
        written: its date; None for today.
    """
    page = template("study.html.j2", _HOME)
    from markupsafe import Markup  # which comes with jinja2

    parts = [_part(each, place, len(summaries)) for place, each in enumerate(summaries)]
    script = source_of("study.js", _HOME)
    alone = len(parts) == 1
    return page.render(
        verb="study report",
        title=title or listed([each.table.name for each in summaries]),
        facts=_facts(summaries[0]) if alone else [],
        question=QUESTION,
        answer=_answer(parts),
        contents=_contents(parts),
        files=parts[0].files if alone else [],
        pictures=[],
        parts=parts,
        numbers=[Markup(part.numbers) for part in parts],
        level=2 if alone else 3,
        LISTED=LISTED,
        study_script=Markup(script),
        hashes=[hash_of(script)],
        command=command,
        versions=versions,
        origins=[],
        written=(written or date.today()).isoformat(),
    )


def _part(summary: StudySummary, place: int, among: int) -> Part:
    table = summary.table
    key = f"table{place + 1}-" if among > 1 else ""
    # A measure that all networks refused has no dot.
    order = [each.name for each in summary.measures if each.count]
    return Part(
        key=key,
        summary=summary,
        answer=answer(summary),
        numbers=typed_columns(table, order),
        pictures=pictures(summary),
        panels=panels(summary),
        prediction=tables.prediction(summary),
        by_factor=tables.by_factor(summary),
        robustness=tables.robustness(summary),
        within=[tables.within(rows) for rows in within_factors(summary)],
        splits=tables.splits(summary) if summary.splits else None,
        scores=tables.scores(summary.scores) if summary.scores else None,
        robust=tables.robust(summary.robust) if summary.robust else None,
        optima=tables.optima(summary) if summary.optima else None,
        levels=tables.coverage(summary),
        latex=latex_rows(summary),
        files=_files(summary),
    )


def _files(summary: StudySummary) -> list[Attachment]:
    stem = re.sub(r"[^\w.@-]+", "-", summary.table.name).strip("-") or "study"
    return [
        attached(
            f"{stem}.csv",
            table_csv(summary),
            text="Table as CSV",
            what="rows of the table",
            beside=False,
        ),
        attached(
            f"{stem}.statistics.json",
            json_line(record(summary)),
            text="Statistics as JSON",
            what="statistics",
            beside=False,
        ),
        attached(
            f"{stem}.tex",
            latex_rows(summary),
            text="Correlations as LaTeX",
            what="correlations as LaTeX",
            beside=False,
        ),
    ]


def _answer(parts: Sequence[Part]) -> list[str]:
    """Sentences of all tables; with several, each paragraph begins with its name."""
    if len(parts) == 1:
        return [*parts[0].answer, *parts[0].summary.notes]
    return [
        f"{part.summary.table.name}: {' '.join([*part.answer, *part.summary.notes])}"
        for part in parts
    ]


def _contents(parts: Sequence[Part]) -> list[tuple[str, str]]:
    if len(parts) > 1:
        tables_ = [(f"{part.key}table", part.summary.table.name) for part in parts]
        return [("answer", "Answer"), *tables_, ("again", "Make it again")]
    (part,) = parts
    sections = (
        ("answer", "Answer", True),
        ("scatter", "Scatter", True),
        ("statistics", "Statistics", True),
        ("within", "Within groups", bool(part.within or part.splits)),
        ("along", "Along a factor", bool(part.panels)),
        ("scores", "Scores", bool(part.scores or part.optima)),
        ("robust", "Under attack", bool(part.robust)),
        ("coverage", "Coverage", True),
        ("latex", "LaTeX", True),
        ("measured", "How it was computed", True),
        ("again", "Make it again", True),
    )
    return [(place, name) for place, name, there in sections if there]


def _facts(summary: StudySummary) -> list[tuple[str, str]]:
    coverage, table = summary.coverage, summary.table
    return [
        (
            ("rows used", f"{coverage.done:,} of {coverage.planned:,} in the file")
            if table.from_file
            else ("networks", f"{coverage.done:,} of {coverage.planned:,} planned")
        ),
        ("factors", ", ".join(table.factors) or "none"),
        ("measures", one_or_more(len(table.measures), "measure").partition(" ")[0]),
        ("gap", table.gap),
    ]
