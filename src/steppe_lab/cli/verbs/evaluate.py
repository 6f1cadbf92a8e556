"""`steppe evaluate`: loss and metrics of checkpoints on all samples of a part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TextIO

import tyro
from rich.table import Table
from tyro.conf import Positional

from steppe.errors import SettingError
from steppe_lab.cli.options import (
    OUT,
    CheckpointArguments,
    belongs,
    check_place,
    trusted,
    use_data_dir,
)
from steppe_lab.cli.streams import console, print_notes

if TYPE_CHECKING:
    from steppe_lab.analysis.evaluated import Evaluation


class Args(CheckpointArguments):
    """Arguments of `steppe evaluate`."""

    example: ClassVar = "steppe evaluate steppe-runs/runs/ID --out scores.json"

    more: Positional[tuple[Path, ...]] = ()
    """Further checkpoints, scored alike."""
    part: Literal["train", "validation", "test"] | None = None
    """Samples of which part of the data; the default is all, each by itself."""
    out: Path | None = None
    """Write the scores as JSON to this file too."""
    task: str | None = None
    """The task that was learnt, with settings of its scores, such as
    translation:beam=4,length_penalty=1 for BLEU by beam search; the default is greedy,
    as in training."""
    texts: Path | None = None
    """Folder that gets the texts that metrics are of, a line each: of translations
    test.source, test.reference and test.hypothesis, and those of validation."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object for each checkpoint instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Score and print."""
    from steppe_lab.analysis.evaluated import evaluate_one
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.store.json_files import json_line, write_json

    use_data_dir(args.data_dir)
    if args.out is not None:
        check_place(args.out)
    if args.texts is not None:
        if args.more:
            raise SettingError(
                f"--texts takes one checkpoint, got {1 + len(args.more)}; evaluate "
                "them one by one, each with a folder of its own."
            )
        if args.part == "train":
            raise SettingError(
                "--texts is of the samples that networks are judged on, got --part "
                "train; choose test or validation."
            )
        check_place(args.texts / "test.hypothesis")
    # All are looked for before the first takes its time.
    paths = [checkpoint_at(path, OUT) for path in (args.checkpoint, *args.more)]
    evaluated = [
        evaluate_one(
            path,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
            task=args.task,
            part=args.part,
        )
        for path in paths
    ]
    rows = [each.scores for each in evaluated]
    records: list[dict[str, Any]] = [
        {**({"checkpoint": str(path)} if args.more else {}), **each.scores}
        | ({"signatures": each.signatures} if each.signatures else {})
        | ({"decoding": each.decoding} if each.decoding else {})
        | ({"task": args.task} if args.task else {})
        | {"notes": each.notes}
        for path, each in zip(paths, evaluated, strict=True)
    ]
    if args.texts is not None:
        _write_texts(args.texts, evaluated[0])
    if args.out is not None:
        write_json(args.out, records if args.more else records[0])
    if args.as_json:
        for record in records:
            print(json_line(record), file=results)
        return 0
    page = console(results)
    page.print(_tables(paths, rows) if args.more else _table(rows[0]))
    print_notes(page, tuple(dict.fromkeys(n for each in evaluated for n in each.notes)))
    return 0


def _write_texts(folder: Path, evaluation: Evaluation) -> None:
    """Write the texts of each part, sentence by sentence."""
    from steppe_lab.store.json_files import write_atomically

    if not evaluation.texts:
        raise SettingError(
            "--texts is for tasks whose metrics are of texts, such as translation, got "
            "a checkpoint of another task; leave it out."
        )
    for part, named in evaluation.texts.items():
        for name, texts in named.items():
            # Tokens are the same; a line break of another kind would end a line.
            lines = "".join(f"{' '.join(text.split())}\n" for text in texts)
            write_atomically(folder / f"{part}.{name}", lines)


def _tables(paths: Sequence[Path], rows: Sequence[Mapping[str, float]]) -> Table:
    """A column for each checkpoint, with the scores that all of them have."""
    from steppe_lab.reports.text.numbers import with_error

    table = Table("± standard error")
    # Checkpoints of one run differ in their names alone.
    alone = len({path.stem for path in paths}) == len(paths)
    for path in paths:
        table.add_column(path.stem if alone else str(Path(*path.parts[-3:])))
    for name in [n for n in rows[0] if all(f"{n}_stderr" in row for row in rows)]:
        cells = [with_error(row[name], row[f"{name}_stderr"]) for row in rows]
        table.add_row(name.replace("_", " "), *cells)
    return table


def _table(scores: Mapping[str, float]) -> Table:
    """A row for each score: the number of the pages, its error, by part."""
    from steppe_lab.analysis.evaluated import ALL_PARTS
    from steppe_lab.reports.text.numbers import with_error

    parts = [part for part in ALL_PARTS if f"{part}_samples" in scores]
    names = dict.fromkeys(
        name.removeprefix(f"{part}_") for part in parts for name in scores
    )
    table = Table("± standard error", *parts)
    for name in names:
        keys = [f"{part}_{name}" for part in parts]
        if any(f"{key}_stderr" in scores for key in keys):
            # Training samples alone have groups, and no metrics of a whole corpus.
            cells = [
                with_error(scores[k], scores[f"{k}_stderr"]) if k in scores else ""
                for k in keys
            ]
            table.add_row(name, *cells)
    table.add_row("samples", *(f"{scores[f'{part}_samples']:,}" for part in parts))
    return table
