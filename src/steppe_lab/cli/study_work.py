"""Options and output of the verbs that work on the runs of a study."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO

import tyro
from pydantic import Field

from steppe_lab.cli.options import OUT, cores, read_devices, use_data_dir
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.progress import progress

if TYPE_CHECKING:
    from steppe_lab.studies.status import StudyStatus
    from steppe_lab.studies.stored import StoredStudy

HOUR = 3600.0  # seconds
SHOWN = 5  # failures that are printed
ONLY = "--only"


class WorkArguments(Arguments):
    """Options of the verbs that work on the runs of a study."""

    limit: int | None = Field(default=None, ge=1)
    """Trials at most, the first of them; the others can follow later."""
    only: tuple[str, ...] = ()
    """Trials with these levels alone, as width=4 lr=0.1 seed=0; several levels of one
    factor stand for any of them."""
    hours: float | None = Field(default=None, gt=0.0)
    """Begin no run after so many hours; the same command goes on later."""
    dry_run: bool = False
    """Say how many trials and runs there are, and how many are finished; do none."""
    trust: tuple[str, ...] = ()
    """Code of yours that a file or a stored study may run, as module:function; no other
    is."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    out: Path = OUT
    """Folder for runs; finished runs in it are not run again."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes, one thread each; the default is one for each core, or for each of
    --devices."""
    devices: str = ""
    """Devices of one kind for the workers, one each, as cuda:0,cuda:1; a device named
    twice is for two workers."""
    executor: Literal["local"] = "local"
    """Where the workers are: on this computer."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of lines."""

    @classmethod
    def understood(cls, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Arguments with all values of --only in one place: it may come again."""
        words: list[str] = []
        levels: list[str] = []
        taking = False
        for word in arguments:
            if word == ONLY or word.startswith(f"{ONLY}="):
                taking = True
                levels += [word.partition("=")[2]] if "=" in word else []
            elif taking and not word.startswith("--"):
                levels.append(word)
            else:
                taking = False
                words.append(word)
        asked = any(word.partition("=")[0] == ONLY for word in arguments)
        return [*words, *([ONLY, *levels] if asked else [])], []


def work_on(stored: StoredStudy, args: WorkArguments, results: TextIO) -> int:
    """Do the runs of a study that are left, and print how far it is.

    Returns:
        The exit code: 1 when some runs of the command failed.
    """
    from steppe_lab.execution.local import run_local
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.selecting import selected
    from steppe_lab.studies.status import status_of
    from steppe_lab.studies.stored import remember
    from steppe_lab.studies.study import Study
    from steppe_lab.studies.survey import survey_of
    from steppe_lab.training.recipe import check_device

    settings = stored.settings
    plan = selected(stored.plan, settings, args.only, args.limit)
    study = Study(plan, stored.store)
    if args.dry_run:
        survey = survey_of(study, settings)
        if args.as_json:
            print(json_line(survey.to_dict()), file=results)
        else:
            results.writelines(f"{line}\n" for line in survey.lines())
        return 0
    use_data_dir(args.data_dir)
    devices = read_devices(args.devices, workers=args.workers)
    for device in devices:
        check_device(device)
    workers = args.workers or len(devices) or cores()
    seconds = None if args.hours is None else HOUR * args.hours
    execute = partial(run_local, workers=workers, devices=devices, seconds=seconds)
    with progress() as tell:
        study.work(
            execute,
            begin=partial(remember, stored.store, settings),
            workers=workers,
            progress=tell,
        )
    status = status_of(study)
    if args.as_json:
        record = {"study": settings.stored_name, **status.to_dict()}
        print(json_line(record), file=results)
    else:
        results.writelines(f"{line}\n" for line in lines_of(status))
    return 1 if status.failures else 0


def lines_of(status: StudyStatus) -> list[str]:
    """How far a study is, a line for its trials and for each kind of its runs."""
    lines = [f"trials: {_counts(status.trials)}"]
    lines += [f"{kind}: {_counts(states)}" for kind, states in status.runs.items()]
    failures = list(status.failures.items())
    lines += [f"failed: {name}: {reason}" for name, reason in failures[:SHOWN]]
    if len(failures) > SHOWN:
        lines.append(f"and {len(failures) - SHOWN} more; --json lists all.")
    return lines


def _counts(states: Mapping[str, Any]) -> str:
    total = sum(states.values())
    named = [f"{count:,} {state}" for state, count in states.items() if count]
    return f"{total:,}, of them {', '.join(named)}" if named else "0"
