"""`steppe list studies`: the built-in studies, with the number of trials per scale."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.markup import escape
from rich.table import Table

from steppe.registry.registry import unknown_name
from steppe_lab.cli.streams import console
from steppe_lab.studies.files import BUILT_IN, built_in_studies, read_study


def list_studies(asked: Sequence[str], as_json: bool, results: TextIO) -> int:
    """Print them; those that are asked for by name in full.

    Raises:
        UnknownNameError: a name that none of them has.
    """
    known = built_in_studies()
    names = [name.replace("-", "_") for name in asked]
    for name in names:
        if name not in known:
            raise unknown_name("study", name, known)
    records = {name: _record(name) for name in names or known}
    if as_json:
        print(json.dumps({"study": records}), file=results)
        return 0
    page = console(results)
    table = Table("study", "trials", "what it is", title="studies")
    for name, record in records.items():
        trials = "\n".join(f"{n:,} {scale}" for scale, n in record["trials"].items())
        said = record["text"] if names else record["summary"]
        table.add_row(name, trials, escape(said), end_section=True)
    page.print(table)
    return 0


def _record(name: str) -> Mapping[str, Any]:
    """Facts of a study; its levels are those of the published size."""
    study = read_study(name)
    text = inspect.getdoc(importlib.import_module(f"{BUILT_IN}.{name}")) or ""
    return {
        "summary": text.partition("\n")[0],
        "trials": {scale: study.at_scale(scale).trials for scale in study.scales},
        "grid": study.grid,
        "zip": study.zip,
        "seeds": study.seeds,
        "measures": [each for group in study.measures for each in group],
        "text": text,
    }
