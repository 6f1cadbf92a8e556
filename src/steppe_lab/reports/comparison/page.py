"""A comparison as one HTML page that needs nothing else, not even its script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from steppe.pages.attachment import Attachment, attached
from steppe.pages.templating import template
from steppe_lab.datasets.label_noise import WORDS
from steppe_lab.reports.comparison.answer import allowing, answer_sentences
from steppe_lab.reports.comparison.findings import Verdicts, answer_of
from steppe_lab.reports.comparison.pictures import pictures
from steppe_lab.reports.comparison.rows import to_csv
from steppe_lab.reports.comparison.sections import (
    change_cell,
    definitions,
    mean_cell,
    optimizer_rows,
    run_rows,
    setting_rows,
)
from steppe_lab.reports.comparison.sentences import ends, reading
from steppe_lab.reports.comparison.summary import (
    APART,
    LEARNT,
    MATCHED,
    WORTH,
    Summary,
    summarise,
)
from steppe_lab.reports.comparison.sweep import sweep_of
from steppe_lab.reports.text.numbers import listed
from steppe_lab.reports.text.provenance import origin_sentences
from steppe_lab.studies.rows import Comparison
from steppe_lab.training.settings import PlainSettings, option_of

QUESTION = "Do they find flatter minima here, and does it pay?"


def render(
    comparison: Comparison,
    *,
    command: str,
    versions: Mapping[str, str],
    written: date | None = None,
) -> str:
    """The page.

    Args:
        comparison: runs may have failed, even all of them.
        command: makes the page again.
        versions: of the packages that made it.
        written: its date; None for today.
    """
    summary, sweep = summarise(comparison), sweep_of(comparison)
    drawn = pictures(comparison, summary)
    page = template("compare.html.j2", "steppe_lab.reports.comparison")
    return page.render(
        verb="compare",
        title=_title(comparison),
        facts=_facts(comparison),
        question=f"Which {sweep.setting} is best?" if sweep else QUESTION,
        answer=[sweep.answer] if sweep else _answer(summary),
        allowing=allowing(summary),
        reading=reading(summary)[:-1],
        summary=_summary_table(summary),
        versus=_versus_table(summary),
        sweep=sweep,
        epochs=ends(summary),
        pictures=drawn,
        contents=_contents(comparison, summary, drawn=bool(drawn)),
        files=_files(comparison),
        written=(written or date.today()).isoformat(),
        run_heads=[
            q.title for q in summary.quantities if not q.key.startswith("excess:")
        ],
        runs=run_rows(comparison, summary),
        settings=setting_rows(comparison.settings),
        optimizers=optimizer_rows(comparison),
        definitions=definitions(comparison.settings),
        samples=_samples(comparison),
        one_seed=comparison.settings.seeds == 1,
        comparison=comparison,
        headline=comparison.headline,
        summarised=summary,
        command=command,
        versions=versions,
        origins=origin_sentences(comparison.origins),
        LEARNT=LEARNT,
        WORTH=WORTH,
        MATCHED=MATCHED,
        APART=APART,
    )


def _contents(
    comparison: Comparison, summary: Summary, *, drawn: bool
) -> list[tuple[str, str]]:
    """Sections that are there: pairs of a place and a name."""
    notes = comparison.failures or comparison.notes or summary.doubts
    sections = (
        ("answer", "Answer", True),
        ("figures", "Figures", drawn),
        ("sweep", "Sweep", bool(comparison.rows and comparison.settings.sweep)),
        ("numbers", "Summary", True),
        ("runs", "All runs", bool(comparison.rows)),
        ("failures", "Failures and notes", bool(notes)),
        ("measured", "How it was measured", True),
        ("settings", "Settings", True),
        ("again", "Make it again", True),
    )
    return [(place, name) for place, name, there in sections if there]


def _files(comparison: Comparison) -> list[Attachment]:
    if not comparison.rows:
        return []
    name, what = f"{comparison.settings.name}.csv", "rows of all runs"
    return [attached(name, to_csv(comparison), text="All rows as CSV", what=what)]


def _answer(summary: Summary) -> list[str]:
    """The short answer; it begins with a name, or with a capital where it has none."""
    finding = answer_of(summary)
    first, *others = answer_sentences(finding)
    named = isinstance(finding, Verdicts)
    return [first if named else first[:1].upper() + first[1:], *others]


def _summary_table(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "quantity": quantity,
            "cells": [
                mean_cell(summary, contender, quantity)
                for contender in summary.contenders
            ],
        }
        for quantity in summary.quantities
    ]


def _versus_table(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "quantity": quantity,
            "cells": [
                change_cell(versus.changes.get(quantity.key), quantity)
                for versus in summary.versus
            ],
        }
        for quantity in summary.quantities
        if any(quantity.key in versus.changes for versus in summary.versus)
    ]


def _title(comparison: Comparison) -> str:
    names = list(comparison.settings.optimizers)
    if comparison.settings.sweep:
        name = names[0].partition(":")[0]
        return f"{name}'s {comparison.settings.sweep} on {_data(comparison)}"
    what = listed(names) if len(names) <= 4 else f"{len(names)} optimizers"
    return f"{what} on {_data(comparison)}"


def _data(comparison: Comparison) -> str:
    return comparison.settings.data.partition(":")[0]


def _facts(comparison: Comparison) -> list[tuple[str, str]]:
    """Subject of the page: pairs of a name and a value."""
    settings = comparison.settings
    facts = [("data", settings.data), ("model", settings.model)]
    if comparison.parameters:
        facts.append(("parameters", f"{comparison.parameters:,}"))
    if comparison.train_samples:
        train, held = comparison.train_samples, comparison.test_samples
        facts.append(("samples", f"{train:,} train, {held:,} {settings.held_out}"))
    if settings.label_noise:
        share = f"{100 * settings.label_noise:g} % of training"
        facts.append(("label noise", f"{share}, {WORDS[settings.label_noise_kind]}"))
    if settings.data_noise:
        facts.append(("noise on training images", f"{settings.data_noise:g}"))
    if settings.augment:
        facts.append(("augmentation", settings.augment))
    length = "epochs" if settings.steps is None else "steps"
    facts.append((length, str(getattr(settings, length))))
    facts.append(("seeds", str(settings.seeds)))
    said = ("label_noise_kind", "data_noise", "steps")
    recorded = settings.model_dump(mode="json")
    for name in PlainSettings.model_fields:
        always = name in PlainSettings.always_recorded
        if name in recorded and not always and name not in said:
            facts.append((option_of(name).replace("-", " "), _words(recorded[name])))
    return facts


def _words(value: Any) -> str:
    """A setting as text, with yes for an option that takes no value."""
    if value is True:
        return "yes"
    several = isinstance(value, list | tuple)
    return " ".join(value) if several else f"{value}"


def _samples(comparison: Comparison) -> int:
    """Training samples that measures were taken on."""
    most = comparison.settings.measure_samples
    return min(most, comparison.train_samples) if comparison.train_samples else most
