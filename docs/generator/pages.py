"""The pages, by their paths below `docs/methods`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from docs.generator.facts import (
    Facts,
    call,
    command,
    facts,
    memory,
    optimizer_options,
    settings,
    signature,
)
from docs.generator.markdown import Text, cell, linked, text_of
from docs.generator.measures import INDEX, measure_pages, page_of
from steppe.averaging import AVERAGES
from steppe.bases import BASES
from steppe.gates import GATES
from steppe.geometry import GEOMETRIES
from steppe.measures import MEASURES
from steppe.optimizers import OPTIMIZERS
from steppe.registry.composed import OF_THE_RUN
from steppe.registry.registry import Entry, Registry
from steppe.schedules import SCHEDULES
from steppe.stepping.options import OptimizerOptions, RandomOptions

FOLDER = Path(__file__).resolve().parents[1] / "methods"
OPTIONS = "every-optimizer.md"
CHOICE = FOLDER.parent / "which-optimizer.md"
COSTS = re.compile(r"(?<=<!-- costs -->\n).*?(?=<!-- /costs -->)", re.S)


@dataclass(frozen=True)
class Kind:
    """A kind of method, and where its pages are."""

    folder: str
    home: str  # of the classes, in Python
    registry: Registry[Any]
    first: str = ""  # first argument, as in an example
    use: str = ""  # how an optimizer takes it
    counted: bool = False  # whether gradients and memory are

    @property
    def title(self) -> str:
        return self.folder.capitalize().replace("-", " ")


KINDS = (
    Kind("optimizers", "steppe", OPTIMIZERS, first="base", counted=True),
    Kind("averages", "steppe", AVERAGES, first="model", counted=True),
    Kind("base-optimizers", "steppe.bases", BASES),
    Kind("schedules", "steppe.schedules", SCHEDULES, use="for example as `rho=`"),
    Kind("gates", "steppe.gates", GATES, use="as `gate=`"),
    Kind("geometries", "steppe.geometry", GEOMETRIES, use="as `geometry=`"),
)


@dataclass(frozen=True)
class Method:
    """What the page and the row of one method say."""

    kind: Kind
    name: str
    title: str
    page: str  # path below FOLDER; "" for a method of torch, which has none
    source: str
    text: Text
    notes: str = ""  # of its module, where it is alone there
    python: str = ""
    command: str = ""
    facts: Facts = field(default_factory=dict)
    settings: list[tuple[str, str, str]] = field(default_factory=list)
    gradients: str = ""
    memory: tuple[str, str] = ("", "")  # during backward passes, and at most


def pages() -> dict[str, str]:
    """Path below `docs/methods` and text of every page."""
    jinja = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # Markdown for readers of the repository, from its own texts
    )
    jinja.filters["cell"] = cell
    jinja.globals["of_the_run"] = OF_THE_RUN
    methods = [
        (kind, [_method(kind, entry) for entry in kind.registry]) for kind in KINDS
    ]
    page = jinja.get_template("method.md.j2")
    found = {
        method.page: page.render(m=method)
        for _, group in methods
        for method in group
        if method.page
    }
    found |= measure_pages(jinja, _links("../../"))
    found[OPTIONS] = jinja.get_template("options.md.j2").render(
        texts=[text_of(each, _links("")) for each in (OptimizerOptions, RandomOptions)],
        settings=optimizer_options(OPTIMIZERS["sam"]),
    )
    found["README.md"] = jinja.get_template("index.md.j2").render(kinds=methods)
    return {name: text.rstrip("\n") + "\n" for name, text in found.items()}


def with_costs(text: str) -> str:
    """The page of choice with its table of costs, cheap methods first."""
    lines = [
        "| method | gradients per step | memory in passes | memory at most |",
        "|---|---|---|---|",
    ]
    entries = sorted(
        OPTIMIZERS, key=lambda e: (e.spec.grad_evals, *map(float, memory(e)))
    )
    for entry in entries:
        name = f"[{entry.name}](methods/optimizers/{entry.name}.md)"
        told = " | ".join((name, f"{entry.spec.grad_evals:g}", *memory(entry)))
        lines.append(f"| {told} |")
    return COSTS.sub("\n" + "\n".join(lines) + "\n\n", text)


def _method(kind: Kind, entry: Entry[Any]) -> Method:
    """A method by its class, or by what makes it if the class is torch's."""
    made, links = entry.offered, _links("../")
    name = getattr(made, "__name__", entry.name)
    example = getattr(entry.spec, "example", {})
    return Method(
        kind=kind,
        name=entry.name,
        title=name if inspect.isclass(made) else entry.name,
        page=f"{kind.folder}/{entry.name}.md" if inspect.isclass(made) else "",
        source=linked(entry.spec.source, {}),
        text=text_of(made, links if inspect.isclass(made) else {}),
        notes=_notes(made, links),
        python=call(f"{kind.home}.{name}", example, kind.first)
        if kind.first
        else signature(f"{kind.home}.{name}", made),
        command=command(kind.registry, entry),
        facts=facts(entry),
        settings=settings(kind.registry, entry),
        gradients=f"{entry.spec.grad_evals:g}" if kind.counted else "",
        memory=memory(entry) if kind.counted else ("", ""),
    )


def _notes(made: Any, links: Mapping[str, str]) -> str:
    """What the module says after its first line, if the class is alone in it."""
    module = sys.modules[made.__module__]
    alone = [
        name
        for name, each in vars(module).items()
        if inspect.isclass(each)
        and each.__module__ == module.__name__
        and not name.startswith("_")
    ]
    return text_of(module, links).body if alone == [made.__name__] else ""


def _links(up: str) -> dict[str, str]:
    """Pages of the names that docstrings have in backticks."""
    found = {
        "steppe.stepping.options": up + OPTIONS,
        "steppe.stepping.options.OptimizerOptions": up + OPTIONS,
        "steppe.stepping.options.RandomOptions": up + OPTIONS,
    }
    for kind in KINDS:
        found[kind.home] = f"{up}README.md#{kind.folder}"
        found |= dict(_names(kind, up))
    found["steppe.measures"] = up + INDEX
    for entry in MEASURES:
        page, name = up + page_of(entry), entry.offered.__name__
        found |= {f"steppe.measures.{name}": page, name: page}
    del found["steppe"]
    return found


def _names(kind: Kind, up: str) -> Iterator[tuple[str, str]]:
    for entry in kind.registry:
        made = entry.offered
        if inspect.isclass(made):
            page = f"{up}{kind.folder}/{entry.name}.md"
            yield f"{kind.home}.{made.__name__}", page
            yield made.__name__, page
