"""`steppe compare`: the main job."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from pydantic import Field
from tyro.conf import Positional

from steppe_lab.cli.messages import say
from steppe_lab.cli.options import (
    OUT,
    cores,
    kind_of,
    open_store,
    read_devices,
    use_data_dir,
)
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.progress import at_the_last, progress
from steppe_lab.cli.streams import console
from steppe_lab.execution.fork_server import start_server
from steppe_lab.runs import WORK
from steppe_lab.runs.measure_groups import ungrouped
from steppe_lab.runs.settings import CompareSettings


class Args(Arguments, CompareSettings):
    """Arguments of `steppe compare`."""

    example: ClassVar = "steppe compare sgd sam:rho=0.05 lpf_sgd --seeds 5 --epochs 20"

    optimizers: Positional[tuple[str, ...]] = ("sgd", "sam", "lpf_sgd")
    """Optimizers to compare, such as sgd, sam:rho=0.1 or adam, or sgd+ema for the
    average of its weights; see `steppe list`. The first one is what the others are
    compared with."""
    start_from: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Weights to start from instead of those that the seed gives: a checkpoint, RUN@50,
    or a file that torch.save wrote; sha256:DIGITS names one that was used before. The
    id of a run follows from the contents."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    out: Path = OUT
    """Folder for runs and reports; finished runs in it are not run again."""
    workers: int | None = Field(default=None, ge=1, le=1024)
    """Processes, one thread each; the default is one for each core, or for each of
    --devices."""
    devices: str = ""
    """Devices of one kind for the workers, one each, as cuda:0,cuda:1; a device named
    twice is for two workers."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object per network instead of tables."""


def run(args: Args, results: TextIO) -> int:
    """Run the unfinished part of the comparison, print it, write the report."""
    names = CompareSettings.model_fields
    devices = read_devices(args.devices, args.device, args.workers)
    given = {name: getattr(args, name) for name in names}
    # The recipe of each network gives its start; there is no second network.
    asked = ungrouped(args.measures, ["start"])
    given["measures"] = asked.measures
    for sentence in asked.left_out:
        say(sentence.partition(" (--")[0] + ", which a comparison does not give.")
    if devices:
        given["device"] = kind_of(devices)
    settings = CompareSettings(**given)
    if not (args.out / "studies" / f"{settings.name}.json").exists():
        start_server(WORK)  # it imports torch while this process does
    from steppe.pages.picture import prepare_pictures
    from steppe_lab.analysis.starts import with_start
    from steppe_lab.reports.comparison.report import ComparisonReport
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.comparison import ComparisonStudy
    from steppe_lab.studies.sweep import with_validation
    from steppe_lab.training.recipe import check_device

    for device in devices:
        check_device(device)
    use_data_dir(args.data_dir)
    store = open_store(args.out)
    with progress() as tell:
        settings = with_start(settings, store)
        if settings.sweep:
            settings = with_validation(settings)
        comparison = ComparisonStudy(settings, store, start_named=args.start_from).run(
            workers=args.workers or len(devices) or cores(),
            devices=devices,
            progress=at_the_last(tell, prepare_pictures),
        )
    code = 1 if comparison.failures else 0
    if args.as_json or not comparison.rows:
        for failure in comparison.failures:
            sys.stderr.write(f"failed: {failure}\n")
    if not comparison.rows:
        return code
    report = ComparisonReport(comparison)
    page = report.publish(args.out / "reports", data_dir=args.data_dir)
    if args.as_json:
        for row in report.rows():
            print(json_line(row), file=results)
        return code
    terminal = console(results)
    terminal.print(report.table())
    *sentences, answer = report.sentences()
    terminal.print(f"\n{answer}\n", markup=False)
    for sentence in sentences:
        terminal.print(f"- {sentence}", markup=False)
    terminal.print(f"\nReport: {page}", markup=False, soft_wrap=True)
    return code
