"""Attacks as one HTML page that needs nothing else, not even its script."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date

from steppe.pages.attachment import attached
from steppe.pages.sources import cited
from steppe.pages.templating import template
from steppe_lab.analysis.attacking import AttackedNetwork
from steppe_lab.reports.attack.pictures import (
    curve_pictures,
    series_picture,
    shown_images,
    strongest_examples,
)
from steppe_lab.reports.attack.words import (
    READING,
    answer,
    budget_names,
    changed_things,
    methods,
    notes,
    rows,
    smallest,
    title,
)
from steppe_lab.reports.text.provenance import origin_sentences
from steppe_lab.runs.attack_settings import AttackSettings
from steppe_lab.store.json_files import json_line

RECORD = "attack.json"  # name of the file with all numbers


def render(
    done: AttackedNetwork,
    *,
    command: str,
    versions: Mapping[str, str],
    written: date | None = None,
) -> str:
    """The page.

    Args:
        done: the attacks.
        command: makes the page again.
        versions: of the packages that made it.
        written: its date; None for today.
    """
    pictures = curve_pictures(done)
    strongest = strongest_examples(done)
    images = []
    if strongest is not None:
        key, examples = strongest
        images = shown_images(done, examples)
        series = series_picture(done, key, examples)
        pictures += [series] if series else []
    return template("attack.html.j2", "steppe_lab.reports.attack").render(
        verb="attack",
        title=title(done),
        facts=_facts(done),
        question="How many samples resist small changes of the inputs?",
        answer=[*answer(done), *notes(done)],
        contents=_contents(images=bool(images)),
        files=[
            attached(
                RECORD,
                json_line(done.record()),
                text="Numbers as JSON",
                what="numbers",
            )
        ],
        written=(written or date.today()).isoformat(),
        pictures=pictures,
        budgets=budget_names(done),
        rows=rows(done),
        smallest=smallest(done),
        reading=READING,
        images=images,
        strongest=strongest[0] if strongest else "",
        changed=changed_things(done),
        methods=[(text, said, cited(source)) for text, said, source in methods(done)],
        settings=_settings(done.settings),
        target=done.target,
        command=command,
        versions=versions,
        origins=origin_sentences(done.target.origins, "The network was"),
    )


def _contents(*, images: bool) -> list[tuple[str, str]]:
    """Sections of the page: pairs of a place and a name."""
    return [
        ("answer", "Answer"),
        ("figures", "Figures"),
        ("robust", "Robust accuracy"),
        *([("examples", "Examples")] if images else []),
        ("attacks", "How it was attacked"),
        ("settings", "Settings"),
        ("again", "Make it again"),
    ]


def _facts(done: AttackedNetwork) -> list[tuple[str, str]]:
    recipe, result = done.target.recipe, done.done.result
    return [
        ("data", str(recipe.data)),
        ("model", str(recipe.model)),
        ("optimizer", done.target.trained_by),
        ("samples", f"{result.samples:,}, {result.about['part']}"),
        ("budgets of", changed_things(done)),
        ("protocol", str(result.about["protocol"])),
    ]


def _settings(settings: AttackSettings) -> list[tuple[str, str, str]]:
    fields = type(settings).model_fields
    return [
        (name, _shown(getattr(settings, name)), _shown(field.default))
        for name, field in fields.items()
    ]


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "those of the data" if value is None else str(value)
