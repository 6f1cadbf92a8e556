"""Options and output of the verbs that work on the runs of a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TextIO

import tyro
from pydantic import Field

from steppe.errors import UsageError
from steppe_lab.cli.messages import say
from steppe_lab.cli.options import OUT, cores, read_devices, use_data_dir
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.progress import progress

if TYPE_CHECKING:
    from steppe_lab.execution.abstract import Execute
    from steppe_lab.studies.plan import Plan
    from steppe_lab.studies.status import StudyStatus
    from steppe_lab.studies.stored import StoredStudy
    from steppe_lab.studies.study import Study

HOUR = 3600.0  # seconds
SHOWN = 5  # failures that are printed


class WorkArguments(Arguments):
    """Options of the verbs that work on the runs of a study."""

    repeated: ClassVar[tuple[str, ...]] = ("--only",)  # options that may come again

    limit: int | None = Field(default=None, ge=1)
    """Trials at most, the first of them; the others can follow later."""
    only: tuple[str, ...] = ()
    """Trials with these levels alone, as width=4 lr=0.1 seed=0; several levels of one
    factor stand for any of them."""
    hours: float | None = Field(default=None, gt=0.0)
    """Begin no run after so many hours; the same command goes on later."""
    dry_run: bool = False
    """Say how many trials and runs there are, how many are finished, and how long the
    others take where some are finished; do none."""
    pilot: int | None = Field(default=None, ge=1)
    """Do so many trials that differ much from each other, then say how long the others
    take; the pilot trials belong to the study."""
    trust: tuple[str, ...] = ()
    """Code of yours that a file or a stored study may run, as module:function; no other
    is."""
    changed_code: bool = False
    """Do runs again that finished with other source of your code."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    out: Path = OUT
    """Folder for runs; finished runs in it are not run again."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes, one thread each; the default is one for each core, or for each of
    --devices, or as many as the Ray cluster has room for."""
    devices: str = ""
    """Devices of one kind for the workers, one each, as cuda:0,cuda:1; a device named
    twice is for two workers."""
    executor: Literal["local", "ray"] = "local"
    """Where the workers are: on this computer, or on a Ray cluster whose nodes have
    --out by the same path."""
    address: str = ""
    """Of the Ray cluster; the default is that of RAY_ADDRESS, or the one that was
    started on this computer, or one of its own."""
    gpus: float = Field(default=0.0, ge=0.0)
    """GPUs of each worker on the Ray cluster, also a share of one, as 0.25."""
    pack: str = "off"
    """The most networks of one structure that a worker trains together, 2 or more, or
    auto for so many that all workers are busy, where a few steps are faster so; their
    numbers agree with those of networks trained alone to rounding, not to the bit."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of lines."""

    @classmethod
    def understood(cls, arguments: list[str]) -> tuple[list[str], list[str]]:
        """Arguments with all values of an option in one place: it may come again."""
        words: list[str] = []
        values: dict[str, list[str]] = {}
        taking = ""
        for word in arguments:
            option, equals, value = word.partition("=")
            if option in cls.repeated:
                taking = option
                values.setdefault(option, []).extend([value] if equals else [])
            elif taking and not word.startswith("--"):
                values[taking].append(word)
            else:
                taking = ""
                words.append(word)
        return [*words, *(w for name in values for w in (name, *values[name]))], []


def work_on(
    stored: StoredStudy,
    args: WorkArguments,
    results: TextIO,
    begin: Callable[[], object] = lambda: None,
) -> int:
    """Do the runs of a study that are left, and print how far it is.

    Args:
        stored: the study, which a store remembers from now on.
        args: which of its trials, where, and for how long.
        results: where lines or JSON go.
        begin: called after all checks, before any work.

    Returns:
        The exit code: 1 when some runs of the command failed.

    Raises:
        ChangedCodeError: finished runs belong to other source of the user's code, and
            --changed-code is not given.
    """
    from steppe_lab.studies.estimating import spread_out
    from steppe_lab.studies.other_code import check_same_code
    from steppe_lab.studies.selecting import selected

    plan = selected(stored.plan, stored.settings, args.only, args.limit)
    if not args.changed_code:
        check_same_code(plan, stored.store)
    if args.dry_run and args.pilot is None:
        return _survey(stored, plan, args, results)
    if args.pilot is None:
        return _work(stored, plan, args, results, begin)
    do_runs(stored, spread_out(plan, stored.settings, args.pilot), args, begin)
    return _survey(stored, plan, args, results)


def lines_of(status: StudyStatus) -> list[str]:
    """How far a study is, a line for its trials and for each kind of its runs."""
    lines = [f"trials: {_counts(status.trials)}"]
    lines += [f"{kind}: {_counts(states)}" for kind, states in status.runs.items()]
    failures = list(status.failures.items())
    lines += [f"failed: {name}: {reason}" for name, reason in failures[:SHOWN]]
    if len(failures) > SHOWN:
        lines.append(f"and {len(failures) - SHOWN} more; --json lists all.")
    return lines


def _survey(
    stored: StoredStudy, plan: Plan, args: WorkArguments, results: TextIO
) -> int:
    """Print the size of a study, and the time that is left where it is known."""
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.study import Study
    from steppe_lab.studies.survey import survey_of

    study = Study(plan, stored.store)
    survey = survey_of(study, stored.settings, workers_of(args))
    if args.as_json:
        record = {"version": stored.version, **survey.to_dict()}
        print(json_line(record), file=results)
    else:
        results.writelines(f"{line}\n" for line in survey.lines())
    return 0


def _work(
    stored: StoredStudy,
    plan: Plan,
    args: WorkArguments,
    results: TextIO,
    begin: Callable[[], object],
) -> int:
    """Do the runs of a plan, and print how far it is then."""
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.collecting import refused_by
    from steppe_lab.studies.status import status_of

    study = do_runs(stored, plan, args, begin)
    status, refused = status_of(study), refused_by(study, stored.settings)
    if args.as_json:
        record = {"study": stored.settings.stored_name, "version": stored.version}
        record |= {**status.to_dict(), "refused": [asdict(each) for each in refused]}
        print(json_line(record), file=results)
    else:
        lines = [*lines_of(status), *map(str, refused)]
        results.writelines(f"{line}\n" for line in lines)
    waiting = status.count("waiting")
    if args.hours is not None and waiting:
        say(f"{args.hours:g} h are over; the same command does the runs that are left.")
    return 1 if status.failures else 0


def do_runs(
    stored: StoredStudy,
    plan: Plan,
    args: WorkArguments,
    begin: Callable[[], object] = lambda: None,
) -> Study:
    """Do the runs of a plan that are left, and remember the study; the study of them.

    Args:
        stored: the study, which a store remembers from now on.
        plan: of all of its trials or of some.
        args: where they are done, and for how long.
        begin: called after all checks, before any work.
    """
    from steppe_lab.studies.stored import remember
    from steppe_lab.studies.study import Study

    def beginning() -> None:
        remember(stored.store, stored.settings, stored.plan)
        begin()

    use_data_dir(args.data_dir)
    study = Study(plan, stored.store)
    # Without work a line for each run would say nothing of it.
    is_done = study.left == 0
    with progress() as tell:
        study.work(
            _executor(args, plan),
            begin=beginning,
            workers=workers_of(args),
            progress=None if is_done else tell,
        )
    if is_done:
        count = len(plan) + sum(len(study.followers(run)) for run in plan)
        say(f"all {count:,} runs had been finished before.")
    return study


def _executor(args: WorkArguments, plan: Plan) -> Execute:
    """The executor that is asked for, with its workers, packs and limit of time."""
    from steppe_lab.execution.local import run_local
    from steppe_lab.execution.ray import run_ray
    from steppe_lab.studies.packing import bundles_of, read_pack
    from steppe_lab.training.recipe import check_device

    most = read_pack(args.pack)
    more: dict[str, Any] = {
        "bundles": None if most is None else bundles_of(plan, most, workers_of(args)),
        "seconds": None if args.hours is None else HOUR * args.hours,
    }
    if args.executor == "ray":
        if args.devices:
            raise UsageError(
                "--devices names devices of this computer; on a Ray cluster say --gpus."
            )
        cluster = args.address or None
        return partial(
            run_ray,
            address=cluster,
            workers=args.workers,
            gpus=args.gpus,
            **more,
        )
    if args.address or args.gpus:
        raise UsageError(
            "--address and --gpus are for a Ray cluster; add --executor ray."
        )
    devices = read_devices(args.devices, workers=args.workers)
    for device in devices:
        check_device(device)
    return partial(
        run_local,
        workers=workers_of(args),
        devices=devices,
        **more,
    )


def workers_of(args: WorkArguments) -> int:
    """The number of processes that are asked for."""
    devices = read_devices(args.devices, workers=args.workers)
    return args.workers or len(devices) or cores()


def _counts(states: Mapping[str, int]) -> str:
    total = sum(states.values())
    named = [f"{count:,} {state}" for state, count in states.items() if count]
    return f"{total:,}, of them {', '.join(named)}" if named else "0"
