"""`steppe list experiments`: the papers whose claims can be tested."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.markup import escape
from rich.table import Table

from steppe_lab.cli.streams import console
from steppe_lab.experiments import experiment_names, find_experiment
from steppe_lab.reproduction.experiment import Experiment


def list_experiments(asked: Sequence[str], as_json: bool, results: TextIO) -> int:
    """Print them; those that are asked for by name with their claims.

    Raises:
        UnknownNameError: a name that none of them has.
    """
    experiments = [find_experiment(name) for name in asked or experiment_names()]
    if as_json:
        records = {each.name: _record(each) for each in experiments}
        print(json.dumps({"experiment": records}), file=results)
        return 0
    page = console(results)
    for table in map(_claims, experiments) if asked else [_all(experiments)]:
        page.print(table)
    return 0


def _all(experiments: Sequence[Experiment]) -> Table:
    table = Table("experiment", "claims", "paper", title="experiments")
    for each in experiments:
        claims = "\n".join(f"{c.name} ({len(c.cells):,})" for c in each.claims)
        paper = escape(f"{each.title}. {each.source}.")
        table.add_row(each.name, claims, paper, end_section=True)
    table.caption = "numbers of cells in parentheses; steppe reproduce NAME --list"
    return table


def _claims(experiment: Experiment) -> Table:
    table = Table("claim", "cells", "what is claimed", title=experiment.name)
    for each in experiment.claims:
        said = escape(f"{each.source}: {each.title}. {each.reproduced}")
        table.add_row(each.name, f"{len(each.cells):,}", said)
    table.caption = escape(f"{experiment.title}. {experiment.source}.")
    return table


def _record(experiment: Experiment) -> Mapping[str, Any]:
    return {
        "title": experiment.title,
        "source": experiment.source,
        "claims": {
            each.name: {
                "title": each.title,
                "source": each.source,
                "cells": [cell.name for cell in each.cells],
                "scales": list(each.scales),
            }
            for each in experiment.claims
        },
    }
