"""`steppe list`: methods, models and data by name, with their settings."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, TextIO, get_args

import tyro
from rich.markup import escape
from rich.table import Column, Table
from tyro.conf import Positional

from steppe.registry.registry import NOT_GIVEN, Entry, Registry, unknown_name
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.streams import console
from steppe_lab.reports.text.words import capitalised

Kind = Literal[
    "all",
    "optimizers",
    "averages",
    "measures",
    "models",
    "data",
    "augmentations",
    "attacks",
    "trackers",
    "parts",
    "studies",
    "experiments",
]


class Args(Arguments):
    """Arguments of `steppe list`."""

    example: ClassVar = "steppe list optimizers"

    spellings: ClassVar[Mapping[str, str]] = {
        **{kind.removesuffix("s"): kind for kind in get_args(Kind)},
        **dict.fromkeys(("optimiser", "optimisers"), "optimizers"),
        "study": "studies",
        "papers": "experiments",
        **dict.fromkeys(("dataset", "datasets", "data-sets", "data_sets"), "data"),
    }
    kind: Positional[Kind] = "all"
    """What to list."""
    names: Positional[tuple[str, ...]] = ()
    """Only these; of measures, which may be a family such as spectral, of studies and
    of experiments with all of their facts."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of tables."""


def run(args: Args, results: TextIO) -> int:
    """Print the registries; parts are values of settings: schedules, gates, balls."""
    if args.kind == "studies":
        from steppe_lab.cli.list_studies import list_studies

        return list_studies(args.names, args.as_json, results)
    if args.kind == "experiments":
        from steppe_lab.cli.list_experiments import list_experiments

        return list_experiments(args.names, args.as_json, results)
    from steppe.measures import MEASURES
    from steppe.registry.composed import part_registries
    from steppe_lab.attacks import ATTACKS
    from steppe_lab.augmentation import AUGMENTATIONS
    from steppe_lab.training.recipe import CHOICES

    kinds: dict[str, list[Registry[Any]]] = {
        "optimizers": [CHOICES["optimizer"], CHOICES["base"]],
        "averages": [CHOICES["average"]],
        "measures": [MEASURES],
        "models": [CHOICES["model"]],
        "data": [CHOICES["data"]],
        "augmentations": [AUGMENTATIONS],
        "attacks": [ATTACKS],
        "trackers": [CHOICES["track"]],
        "parts": part_registries(),
    }
    parts = {registry.kind for registry in kinds["parts"]}
    wanted = kinds if args.kind == "all" else {args.kind: kinds[args.kind]}
    registries = [registry for each in wanted.values() for registry in each]
    names = _names(registries, args.names)
    if args.as_json:
        listed = {
            registry.kind: {
                entry.name: _record(entry, registry.kind in parts) | _facts(entry)
                for entry in registry
                if not names or entry.name in names
            }
            for registry in registries
        }
        print(json.dumps(listed), file=results)
        return 0
    page = console(results)
    for registry in registries:
        for table in _tables(registry, registry.kind in parts, names):
            page.print(table)
    return 0


def _names(registries: Sequence[Registry[Any]], asked: Sequence[str]) -> set[str]:
    """Names of entries; a family of measures stands for its members.

    Raises:
        UnknownNameError: a name that none of the registries has.
    """
    from steppe.measures.families import members

    known = [entry.name for registry in registries for entry in registry]
    of_measures = any(registry.kind == "measure" for registry in registries)
    names: set[str] = set()
    for name in asked:
        group = [each.name for each in members(name)] if of_measures else []
        if not group and name not in known:
            raise unknown_name(" or ".join(r.kind for r in registries), name, known)
        names.update(group or [name])
    return names


def _record(entry: Any, part: bool) -> dict[str, Any]:
    """Facts of a method; a setting without a default is null."""
    settings = entry.arguments() if part else entry.settings()
    plain = (str, int, float, bool, tuple)
    return {
        "summary": entry.spec.summary,
        "source": entry.spec.source,
        "settings": {
            name: p.default if isinstance(p.default, plain) else None
            for name, p in settings.items()
        },
    }


def _facts(entry: Any) -> dict[str, Any]:
    """Facts that only measures have."""
    from steppe.measures.families import family_of
    from steppe.registry.specs import MeasureSpec

    spec = entry.spec
    if not isinstance(spec, MeasureSpec):
        return {}
    names = ("units", "sharper_is", "invariant_to", "needs", "networks", "cost_is")
    return {
        "family": family_of(entry),
        **{name: getattr(spec, name) for name in names},
        "cost": dataclasses.asdict(spec.cost),
        "cost_text": spec.cost_text,
    }


def _tables(registry: Any, part: bool, names: Collection[str]) -> list[Table]:
    from steppe.measures.families import families

    if registry.kind != "measure":
        return [_table(registry, part, names)]
    if not names:
        return [_in_short(), _studies()]
    chosen = {
        family: [entry for entry in entries if entry.name in names]
        for family, entries in families().items()
    }
    return [_in_full(*each) for each in chosen.items() if each[1]]


def _in_short() -> Table:
    """A row for each measure by family: its price, and its name in words."""
    from steppe.measures.families import families

    table = Table(
        *("family", "measure"),
        Column("passes", justify="right"),
        "what it is",
        title="measures",
        caption="passes: cost at the default settings in forward passes over the data, "
        "about, of each measure alone; all facts: steppe list measures NAME or FAMILY",
        box=None,
        pad_edge=False,
    )
    for family, entries in families().items():
        for number, entry in enumerate(entries):
            spec = entry.spec
            price = f"{spec.cost.in_forwards:,.0f}"
            first = family if number == 0 else ""
            table.add_row(first, entry.name, price, escape(capitalised(spec.title)))
    return table


def _in_full(family: str, entries: Sequence[Entry[Any]]) -> Table:
    """A row for each of some measures: its settings, and its facts below."""
    table = Table("measure, settings and defaults", "what it is", title=family)
    for entry in entries:
        pairs = [_pair(name, p.default) for name, p in entry.settings().items()]
        spec = entry.spec
        facts = {
            "units": spec.units or "none",
            "direction": spec.direction_text,
            "not changed by": spec.invariance_text,
            "needs": ", ".join(spec.needs) or "the objective alone",
            "cost": spec.cost_text,
            "source": spec.source,
        }
        said = "\n".join(f"{name}: {text}" for name, text in facts.items())
        table.add_row(
            "\n".join([entry.name, *(f"  {pair}" for pair in pairs)]),
            escape(f"{spec.summary}\n{said}"),
            end_section=True,
        )
    return table


def _studies() -> Table:
    """Names that stand for the measures of a published study."""
    from steppe_lab.runs.measure_groups import STUDIES

    table = Table("name", "measures", title="studies")
    for name, measures in STUDIES.items():
        table.add_row(name, ", ".join(measures))
    return table


def _table(registry: Any, part: bool, names: Collection[str]) -> Table:
    """A row per entry; settings that all of them share stand below, once."""
    heading = "arguments and defaults" if part else "settings and defaults"
    table = Table(registry.kind, heading, "what it is")
    chosen = [entry for entry in registry if not names or entry.name in names]
    rows = [(e, e.arguments() if part else e.settings()) for e in chosen]
    left_open = [
        {name for name, p in settings.items() if p.default is NOT_GIVEN}
        for _, settings in rows
    ]
    shared = set.intersection(*left_open) if left_open else set()
    for entry, settings in rows:
        own = {name: p for name, p in settings.items() if name not in shared}
        pairs = [_pair(name, p.default) for name, p in own.items()]
        table.add_row(entry.name, ", ".join(pairs), entry.spec.summary)
    if shared:
        table.caption = f"and all of them: {', '.join(sorted(shared))}"
    return table


def _pair(name: str, default: Any) -> str:
    bare = default is inspect.Parameter.empty or default is NOT_GIVEN
    # Names of data sets are spelled as their authors did; true and none as typed.
    shown = default if isinstance(default, str) else str(default).lower()
    return name if bare else f"{name}={shown}"
