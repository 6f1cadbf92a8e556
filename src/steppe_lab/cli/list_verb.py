"""`steppe list`: what there is, with its settings."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table
from tyro.conf import Positional

from steppe_lab.cli.parsing import Arguments


class Args(Arguments):
    """Arguments of `steppe list`."""

    kind: Positional[Literal["all", "optimizers", "measures", "models", "data"]] = "all"
    """What to list."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of tables."""


def run(args: Args) -> int:
    """Print the registries."""
    from steppe.measures import MEASURES
    from steppe.registry import Registry
    from steppe_lab.training.recipe import CHOICES

    kinds: dict[str, list[Registry[Any]]] = {
        "optimizers": [CHOICES["optimizer"], CHOICES["base"]],
        "measures": [MEASURES],
        "models": [CHOICES["model"]],
        "data": [CHOICES["data"]],
    }
    wanted = kinds if args.kind == "all" else {args.kind: kinds[args.kind]}
    if args.as_json:
        found = {
            registry.kind: {entry.name: _record(entry) for entry in registry}
            for registries in wanted.values()
            for registry in registries
        }
        print(json.dumps(found))  # noqa: T201
        return 0
    console = Console(highlight=False)
    for registries in wanted.values():
        for registry in registries:
            console.print(_table(registry))
    return 0


def _record(entry: Any) -> dict[str, Any]:
    settings = {name: p.default for name, p in entry.settings().items()}
    return {
        "summary": entry.spec.summary,
        "source": entry.spec.source,
        "settings": settings,
    }


def _table(registry: Any) -> Table:
    table = Table(registry.kind, "settings and defaults", "what it is")
    for entry in registry:
        record = _record(entry)
        pairs = [f"{name}={value}" for name, value in record["settings"].items()]
        table.add_row(entry.name, ", ".join(pairs).lower(), record["summary"])
    return table
