"""`steppe study worker`: one of many processes that work on a study."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from pydantic import Field
from tyro.conf import Positional

from steppe_lab.cli.options import OUT, open_store, trusted, use_data_dir
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.progress import progress
from steppe_lab.cli.study_work import HOUR, lines_of
from steppe_lab.execution.fork_server import start_server
from steppe_lab.runs import WORK


class Args(Arguments):
    """Arguments of `steppe study worker`."""

    example: ClassVar = "steppe study worker study.yaml --store steppe-runs --hours 8"

    study: Positional[str | None] = None
    """A YAML file, module:function that returns the same mapping, or the name of a
    study that is built in or stored in --store; the default is the newest stored."""
    store: Path = OUT
    """Folder for runs, which all workers share."""
    scale: str = ""
    """One of the scales of the study, such as smoke; the default is the study as it
    is."""
    hours: float | None = Field(default=None, gt=0.0)
    """Begin no run after so many hours."""
    trust: tuple[str, ...] = ()
    """Code of yours that a file or a stored study may run, as module:function; no other
    is."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    workers: int = Field(default=1, ge=1, le=1024)
    """Processes of this worker, one thread each."""
    pack: str = "off"
    """The most networks of one structure that a worker trains together, 2 or more, or
    off; it claims all of them at once. Numbers agree to rounding."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of lines."""


def run(args: Args, results: TextIO) -> int:
    """Do runs that no other worker does until none is left, and count them."""
    start_server(WORK)  # it imports torch while this process does
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.opening import named_study
    from steppe_lab.studies.packing import bundles_of, read_pack
    from steppe_lab.studies.sharing import work_along
    from steppe_lab.studies.status import status_of
    from steppe_lab.studies.stored import open_study, remember

    most = read_pack(args.pack)
    use_data_dir(args.data_dir)
    store, trust = open_store(args.store), trusted(args.trust)
    if args.study is None:
        stored = open_study(store, trust=trust)
    else:
        stored = named_study(store, args.study, scale=args.scale, trust=trust)
    packs = partial(bundles_of, stored.plan)
    with progress() as tell:
        share = work_along(
            stored.study,
            begin=partial(remember, store, stored.settings),
            workers=args.workers,
            seconds=None if args.hours is None else HOUR * args.hours,
            bundles=None if most is None else packs(most, args.workers),
            progress=tell,
        )
    status = status_of(stored.study)
    if args.as_json:
        did = {"finished": dict(share.finished), "failed": dict(share.failed)}
        record = {"study": stored.settings.stored_name, "version": stored.version}
        print(json_line({**record, "did": did, **status.to_dict()}), file=results)
        return 0
    results.write(f"{share.sentence()}\n")
    results.writelines(f"{line}\n" for line in lines_of(status))
    return 0
