"""`steppe study status`: the state of a study, and its failures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from tyro.conf import Positional

from steppe_lab.cli.options import OUT, open_store, trusted
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.study_work import lines_of


class Args(Arguments):
    """Arguments of `steppe study status`."""

    example: ClassVar = "steppe study status --out steppe-runs"

    study: Positional[str | None] = None
    """Name of the study, or its beginning; the default is the newest."""
    out: Path = OUT
    """Folder that holds the runs."""
    trust: tuple[str, ...] = ()
    """Code of yours that the study may run, as module:function; no other is."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of lines."""


def run(args: Args, results: TextIO) -> int:
    """Count runs by state, and say why some failed."""
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.status import status_of
    from steppe_lab.studies.stored import open_study

    stored = open_study(open_store(args.out), args.study, trust=trusted(args.trust))
    status = status_of(stored.study)
    if args.as_json:
        record = {
            "study": stored.settings.stored_name,
            "version": stored.version,
            **status.to_dict(),
        }
        print(json_line(record), file=results)
        return 0
    print(f"{stored.settings.stored_name}, version {stored.version}", file=results)
    results.writelines(f"{line}\n" for line in lines_of(status))
    return 0
