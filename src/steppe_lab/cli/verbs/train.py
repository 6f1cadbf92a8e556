"""`steppe train`: one network, its scores and its checkpoint."""

from __future__ import annotations

from math import nan
from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro
from rich.table import Table

from steppe_lab.cli.options import OUT, open_store, use_data_dir
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.streams import console, print_notes
from steppe_lab.cli.training_log import training_log
from steppe_lab.runs.settings import TrainSettings
from steppe_lab.training.launch import launch

PARTS = ("train", "test")  # of the samples


class Args(Arguments, TrainSettings):
    """Arguments of `steppe train`."""

    example: ClassVar = "steppe train --optimizer sam:rho=0.1+ema --epochs 10 --seed 1"

    start_from: Annotated[str, tyro.conf.arg(name="from")] = ""
    """Weights to start from instead of those that the seed gives: a checkpoint, RUN@50,
    or a file that torch.save wrote; sha256:DIGITS names one that was used before. The
    id of a run follows from the contents."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    out: Path = OUT
    """Folder for runs; a finished run in it is not run again."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Train, print the scores and where the checkpoint is."""
    from steppe_lab.analysis.trained import train_along, train_one
    from steppe_lab.store.json_files import json_line
    from steppe_lab.tasks import stored_corpus_metrics, stored_headline

    use_data_dir(args.data_dir)
    names = TrainSettings.model_fields
    settings = TrainSettings(**{name: getattr(args, name) for name in names})
    if not launch().leads:
        train_along(settings, open_store(args.out))
        return 0
    with training_log(settings.held_out) as tell:
        done = train_one(
            settings,
            open_store(args.out),
            progress=tell,
        )
    if args.as_json:
        record = {"checkpoint": str(done.checkpoint), "run": done.run, **done.result}
        if done.result["wrong"] is not None:  # which ones: result.json
            record["wrong"] = len(done.result["wrong"])
        print(json_line(record), file=results)
        return 0
    metric = stored_headline(done.result)
    shown = "{:.2%}" if metric.share else "{:.4g}"
    titles = ("train", settings.held_out)
    headings = [f"{part} {n}" for part in titles for n in ("loss", metric.title)]
    # Of a whole corpus: of the samples that networks are judged on alone.
    corpus = stored_corpus_metrics(done.result)
    headings += [f"{settings.held_out} {each.title}" for each in corpus]
    table = Table("epoch", *headings)
    for name in ("last", "best"):
        row = {key: nan if v is None else v for key, v in done.result[name].items()}
        cells = [
            text
            for part in PARTS
            for text in (
                f"{row[f'{part}_loss']:.4g}",
                shown.format(row[f"{part}_{metric.name}"]),
            )
        ]
        cells += [f"{row[f'test_{each.name}']:.4g}" for each in corpus]
        table.add_row(f"{row['epoch']:.0f} ({name})", *cells)
    page = console(results)
    page.print(table)
    apart = [f"train_{name}_{metric.name}" for name in ("clean", "random")]
    if all(name in done.result["last"] for name in apart):
        clean, noisy = (shown.format(done.result["last"][name]) for name in apart)
        page.print(
            f"Train {metric.title} of the last epoch: {clean} on clean labels, {noisy} "
            "on labels with noise.",
            markup=False,
        )
    if reason := done.result.get("stopped"):
        page.print(f"Stopped: {reason}.", markup=False)
    elif "converged_at" in done.result:
        epoch = done.result["converged_at"]
        said = f"Converged in epoch {epoch}" if epoch else "Did not converge"
        page.print(f"{said}; trained to the end.", markup=False)
    unlearnt = done.result.get("unlearnt")
    print_notes(page, [*done.result["notes"], *([unlearnt] if unlearnt else [])])
    if "tracked" in done.result:
        folder = done.checkpoint.parent / "track"
        page.print(f"Eigenvalues: {folder}", markup=False, soft_wrap=True)
    if settings.checkpoint_every is not None:
        folder = done.checkpoint.parent / "checkpoints"
        page.print(f"Checkpoints: {folder}", markup=False, soft_wrap=True)
    page.print(f"Checkpoint: {done.checkpoint}", markup=False, soft_wrap=True)
    return 0
