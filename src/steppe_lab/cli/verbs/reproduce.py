"""`steppe reproduce`: published numbers of a paper beside our own, with verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, TextIO

from pydantic import Field
from tyro.conf import Positional

from steppe.errors import UsageError
from steppe_lab.cli.again import command_of
from steppe_lab.cli.options import check_place, open_store, use_data_dir
from steppe_lab.cli.streams import console
from steppe_lab.cli.study_work import WorkArguments, workers_of
from steppe_lab.execution.fork_server import start_server
from steppe_lab.runs import WORK

if TYPE_CHECKING:
    from steppe_lab.reproduction.claims import AbstractClaim
    from steppe_lab.reproduction.costs import ClaimCost
    from steppe_lab.reproduction.experiment import Experiment
    from steppe_lab.reproduction.results import ExperimentResult


class Args(WorkArguments):
    """Arguments of `steppe reproduce`."""

    example: ClassVar = "steppe reproduce zhuang2022_gsam --scale smoke"
    repeated: ClassVar = ("--claim", "--cell", *WorkArguments.repeated)

    experiment: Positional[str]
    """Name of an experiment, see `steppe list experiments`."""
    claim: tuple[str, ...] = ()
    """Claims of it, such as table3; the default is all of them."""
    cell: tuple[str, ...] = ()
    """Cells of the claims, such as cifar10/resnet18/lpf_sgd, or the first words of
    several, such as cifar10/resnet18."""
    seeds: int | None = Field(default=None, ge=1)
    """Seeds of each training; the default is the number of the scale."""
    scale: Literal["smoke", "laptop", "full"] = "full"
    """Smoke runs all of the code in minutes, laptop is for two cores, full is the
    published size, at which alone trained numbers are compared."""
    list: bool = False
    """Print claims, cells, published numbers and what "reproduced" means; run
    nothing."""
    page: Path | None = None
    """Where the page of the whole experiment goes; the default is
    reports/NAME@SCALE.html in --out."""
    csv: bool = False
    """Print one row for each cell instead."""


def run(args: Args, results: TextIO) -> int:
    """Do the runs that are left, and print our numbers beside the published ones."""
    from steppe_lab.experiments import find_experiment

    _check(args)
    use_data_dir(args.data_dir)
    experiment = find_experiment(args.experiment)
    claims = experiment.chosen(args.claim, args.cell)
    if (args.pilot or args.limit or args.only) and len(claims) > 1:
        raise UsageError(
            "--pilot, --limit and --only are for the trials of one claim, got "
            f"{len(claims)} claims; name one with --claim."
        )
    if args.list:
        return _list(experiment, claims, args, results)
    if args.executor == "local" and not args.dry_run:
        start_server(WORK)  # it imports torch while this process does
    return _reproduce(experiment, claims, args, results)


def _check(args: Args) -> None:
    if args.as_json and args.csv:
        raise UsageError("--json and --csv print the same numbers; give one of them.")
    if args.csv and (args.list or args.dry_run or args.pilot):
        raise UsageError("--csv is for results; take --json for lists and costs.")
    if args.page is not None:
        check_place(args.page)


def _reproduce(
    experiment: Experiment,
    claims: Sequence[AbstractClaim],
    args: Args,
    results: TextIO,
) -> int:
    from steppe_lab.cli.claim_work import ClaimWork
    from steppe_lab.reports.reproduction.report import publish
    from steppe_lab.reproduction.claims import Request

    request = Request(scale=args.scale, cells=args.cell, seeds=args.seeds)
    work = ClaimWork(experiment, request, open_store(args.out), args)
    if args.dry_run and args.pilot is None:
        return _print_costs(experiment, work.costs(claims), args, results)
    work.do(claims)
    if args.pilot is not None:
        return _print_costs(experiment, work.costs(claims), args, results)
    result = work.results(claims)
    page = args.page or args.out / "reports" / f"{experiment.name}@{args.scale}.html"
    publish(work.results(experiment.claims, whole=True), page, _command(args))
    _print(result, page, args, results)
    return work.exit_code(result)


def _command(args: Args) -> str:
    """The command that makes the page of the whole experiment again."""
    partly = ("claim", "cell", "limit", "only", "hours", "csv")
    whole = {name: Args.model_fields[name].default for name in partly}
    return command_of(args.model_copy(update=whole), "reproduce")


def _print(result: ExperimentResult, page: Path, args: Args, results: TextIO) -> None:
    from steppe_lab.reports.reproduction.record import result_csv, result_record
    from steppe_lab.reports.reproduction.report import heading, shown_result
    from steppe_lab.reports.reproduction.sentences import answer, going_on
    from steppe_lab.store.json_files import json_line

    if args.as_json:
        print(json_line(result_record(result)), file=results)
        return
    if args.csv:
        results.write(result_csv(result))
        return
    shown = console(results)
    for each in result.claims:
        shown.print(heading(each.claim), markup=False, style="bold")
        tables, sentences = shown_result(each, shown.width)
        for table in tables:
            shown.print(table)
        for sentence in sentences:
            shown.print(sentence, markup=False)
        shown.print()
    more = going_on(result)
    for sentence in (*answer(result), *([more] if more else ())):
        shown.print(sentence, markup=False)
    for note in result.experiment.notes:
        shown.print(note, markup=False)
    print(page, file=results)


def _print_costs(
    experiment: Experiment, costs: list[ClaimCost], args: Args, results: TextIO
) -> int:
    from steppe_lab.reports.reproduction.report import shown_costs
    from steppe_lab.reproduction.costs import total_of
    from steppe_lab.store.json_files import json_line

    workers = workers_of(args)
    if args.as_json:
        record = {
            "experiment": experiment.name,
            "scale": args.scale,
            "claims": {each.claim: each.to_dict(workers) for each in costs},
            "total": total_of(costs).to_dict(workers),
        }
        print(json_line(record), file=results)
        return 0
    shown = console(results)
    tables, sentences = shown_costs(costs, workers, shown.width)
    for table in tables:
        shown.print(table)
    for sentence in sentences:
        shown.print(sentence, markup=False)
    return 0


def _list(
    experiment: Experiment,
    claims: Sequence[AbstractClaim],
    args: Args,
    results: TextIO,
) -> int:
    from steppe_lab.reports.reproduction.record import experiment_record
    from steppe_lab.reports.reproduction.report import heading, shown_claim
    from steppe_lab.store.json_files import json_line

    if args.as_json:
        print(json_line(experiment_record(experiment, claims)), file=results)
        return 0
    shown = console(results)
    shown.print(f"{experiment.title}: {experiment.source}", markup=False, style="bold")
    for note in experiment.notes:
        shown.print(note, markup=False)
    for claim in claims:
        shown.print()
        shown.print(heading(claim), markup=False, style="bold")
        tables, sentences = shown_claim(claim, shown.width)
        for table in tables:
            shown.print(table)
        for sentence in sentences:
            shown.print(sentence, markup=False)
    return 0
