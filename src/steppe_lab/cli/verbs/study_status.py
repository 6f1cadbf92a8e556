"""`steppe study status`: the state of a study, and its failures."""

from __future__ import annotations

from dataclasses import asdict
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
    """Code of yours that may run, as module:function, of studies that an older steppe
    ran; other results are read without code."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of lines."""


def run(args: Args, results: TextIO) -> int:
    """Count runs by state, with reasons of failures, the rate and the time left."""
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.collecting import refused_by, ruled_out
    from steppe_lab.studies.estimating import time_left
    from steppe_lab.studies.status import status_of
    from steppe_lab.studies.stored import open_results
    from steppe_lab.studies.survey import in_words

    stored = open_results(open_store(args.out), args.study, trust=trusted(args.trust))
    status, left = status_of(stored.study), time_left(stored.study)
    # Failed and unfinished trials have no rows either, and are counted by state.
    rules = stored.settings.keep
    dropped = ruled_out(stored.table()) if rules else {}
    refused = refused_by(stored.study, stored.settings)
    workers = max(1, status.count("running"))
    if args.as_json:
        record = {
            "study": stored.settings.stored_name,
            "version": stored.version,
            **status.to_dict(),
            "dropped": dropped,
            "refused": [asdict(each) for each in refused],
            "estimate": None if left is None else left.to_dict(workers),
        }
        print(json_line(record), file=results)
        return 0
    print(f"{stored.settings.stored_name}, version {stored.version}", file=results)
    lines = lines_of(status)
    if rules:
        named = " and ".join(rule.text for rule in rules)
        lines.append(f"dropped: {len(dropped):,} trials, by the rule {named}")
    lines += [f"{each}" for each in refused]
    if (rate := status.rate()) is not None:
        shown = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        lines.append(f"rate: {shown} runs an hour, by those of the last hour")
    if left is not None and status.left:
        lines.append(in_words(left, workers))
    results.writelines(f"{line}\n" for line in lines)
    return 0
