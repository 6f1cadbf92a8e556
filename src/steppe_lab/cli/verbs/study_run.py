"""`steppe study run`: the runs of a study that are not finished."""

from __future__ import annotations

from typing import ClassVar, TextIO

from tyro.conf import Positional

from steppe_lab.cli.options import open_store, trusted
from steppe_lab.cli.study_work import WorkArguments, work_on
from steppe_lab.execution.fork_server import start_server
from steppe_lab.runs import WORK


class Args(WorkArguments):
    """Arguments of `steppe study run`."""

    example: ClassVar = "steppe study run study.yaml --scale smoke --hours 8"

    study: Positional[str]
    """A YAML file, module:function that returns the same mapping, or the name of a
    study that is built in or stored in --out."""
    scale: str = ""
    """One of the scales of the study, such as smoke; the default is the study as it
    is."""


def run(args: Args, results: TextIO) -> int:
    """Do the runs that are left, and say how far the study is."""
    if args.executor == "local" and not args.dry_run:
        start_server(WORK)  # it imports torch while this process does
    from steppe_lab.studies.opening import named_study

    trust = trusted(args.trust)
    study = named_study(open_store(args.out), args.study, scale=args.scale, trust=trust)
    return work_on(study, args, results)
