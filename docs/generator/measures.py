"""Pages of measures by family, from their classes and facts."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment

from docs.generator.facts import Facts, limits_of, row_of_setting
from docs.generator.markdown import Text, linked, text_of
from steppe.measures.families import about, families, family_of
from steppe.registry.registry import Entry
from steppe.registry.specs import MeasureSpec

FOLDER = "measures"
INDEX = f"{FOLDER}/README.md"
LETTERS = re.compile(r"(\n\n|^)Shape letters:.*?(?=\n\n|$)", re.S)  # for its code
# Options of a call for needs that an objective alone does not serve.
ARGUMENTS = {"start": "start=start", "other network": "other=other"}
OPTIONS = {"other network": "--other OTHER"}  # a run of steppe knows its start


@dataclass(frozen=True)
class Measured:
    """The page and the row of one measure."""

    name: str
    title: str
    page: str  # path below the folder of all methods
    source: str
    text: Text
    notes: str  # of its module
    python: str
    command: str
    facts: Facts
    settings: list[tuple[str, str, str, str]]  # name, default, values, range
    spec: MeasureSpec


def measure_pages(jinja: Environment, links: Mapping[str, str]) -> dict[str, str]:
    """Path and text of the page of every measure, and of their index.

    Args:
        jinja: with the templates.
        links: pages of names in backticks, as seen from a page of a measure.
    """
    grouped = {
        family: [_measured(entry, links) for entry in entries]
        for family, entries in families().items()
    }
    page = jinja.get_template("measure.md.j2")
    pages = {each.page: page.render(m=each) for g in grouped.values() for each in g}
    titles = {family: (_title(family), about(family)) for family in grouped}
    index = jinja.get_template("measures.md.j2")
    pages[INDEX] = index.render(families=grouped, titles=titles)
    return pages


def page_of(entry: Entry[MeasureSpec]) -> str:
    """Path of the page of a measure, below the folder of all methods."""
    return f"{FOLDER}/{family_of(entry)}/{entry.name}.md"


def _measured(entry: Entry[MeasureSpec], links: Mapping[str, str]) -> Measured:
    made: Any = entry.make
    spec = entry.spec
    return Measured(
        name=entry.name,
        title=made.__name__,
        page=page_of(entry),
        source=linked(spec.source, {}),
        text=text_of(made, links),
        notes=LETTERS.sub("", text_of(sys.modules[made.__module__], links).body),
        python=_call(made, spec),
        command=" ".join(
            [
                f"steppe measure steppe-runs/runs/ID {entry.name}",
                *(OPTIONS[need] for need in spec.needs if need in OPTIONS),
            ]
        ),
        facts=_facts(spec),
        settings=[
            (*row_of_setting(p), limits_of(spec.bounds.get(name)))
            for name, p in entry.settings().items()
        ],
        spec=spec,
    )


def _call(made: Any, spec: MeasureSpec) -> str:
    """A call in Python with all settings at their defaults."""
    parameters = inspect.signature(made).parameters.values()
    settings = ", ".join(f"{p.name}={p.default!r}" for p in parameters)
    given = ["objective", *(ARGUMENTS[n] for n in spec.needs if n in ARGUMENTS)]
    return f"steppe.measures.{made.__name__}({settings})({', '.join(given)})"


def _facts(spec: MeasureSpec) -> Facts:
    homogeneous = "piecewise linear or otherwise positively homogeneous ones alone"
    return {
        "Units": spec.units or "none",
        "Direction": spec.direction_text,
        "Not changed by": spec.invariance_text,
        "Needs": ", ".join(spec.needs) or "the objective alone",
        "Cost at the defaults": spec.cost_text,
        "Networks": "any" if spec.networks == "any" else homogeneous,
    }


def _title(family: str) -> str:
    return family.replace("_", " ").capitalize()
