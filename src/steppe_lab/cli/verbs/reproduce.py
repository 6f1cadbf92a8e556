"""`steppe reproduce`: published numbers of a paper beside our own, with verdicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, TextIO

from pydantic import Field
from tyro.conf import Positional

from steppe_lab.cli.options import open_store, use_data_dir
from steppe_lab.cli.study_work import WorkArguments, do_runs

if TYPE_CHECKING:
    from steppe_lab.reproduction.results import ExperimentResult


class Args(WorkArguments):
    """Arguments of `steppe reproduce`."""

    example: ClassVar = "steppe reproduce zhuang2022_gsam --scale smoke"

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
    """Print claims, cells and published numbers; run nothing."""


def run(args: Args, results: TextIO) -> int:
    """Do the runs that are left, and print our numbers beside the published ones."""
    from steppe_lab.experiments import find_experiment
    from steppe_lab.reproduction.claims import Request
    from steppe_lab.reproduction.results import ExperimentResult, results_of

    use_data_dir(args.data_dir)
    experiment = find_experiment(args.experiment)
    request = Request(scale=args.scale, cells=args.cell, seeds=args.seeds)
    store = open_store(args.out)
    made = []
    for claim in experiment.chosen(args.claim, args.cell):
        study = claim.study(request, store) if claim.chosen(request) else None
        if study is not None and not args.dry_run:
            do_runs(study, study.plan, args)
        made.append(results_of(claim, request, study))
    result = ExperimentResult(
        experiment=experiment, request=request, claims=tuple(made)
    )
    _print(result, results)
    return 0


def _print(result: ExperimentResult, results: TextIO) -> None:
    for each in result.claims:
        print(f"{each.claim.source}: {each.claim.title}", file=results)
        for row in each.rows:
            print(f"  {row.cell.name}: {row.verdict}", file=results)
