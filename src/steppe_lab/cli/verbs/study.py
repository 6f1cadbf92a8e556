"""`steppe study`: the studies that are stored, and those that come with steppe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro

from steppe_lab.cli.options import OUT, open_store
from steppe_lab.cli.parsing import Arguments


class Args(Arguments):
    """Arguments of `steppe study`."""

    example: ClassVar = "steppe study --out steppe-runs"

    out: Path = OUT
    """Folder that holds the runs."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of lines."""


def run(args: Args, results: TextIO) -> int:
    """List the studies of the folder, and those that come with steppe."""
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.files import built_in_studies
    from steppe_lab.studies.stored import study_names

    stored, built_in = study_names(open_store(args.out)), built_in_studies()
    if args.as_json:
        print(json_line({"stored": stored, "built_in": built_in}), file=results)
        return 0
    for title, names in ((f"in {args.out}", stored), ("built in", built_in)):
        print(f"{title}: {', '.join(names) or 'none'}", file=results)
    return 0
