"""`steppe measure`: the flatness of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TextIO

import tyro
from pydantic import Field
from rich.table import Table
from tyro.conf import Positional

from steppe_lab.cli.options import OUT, check_place, trusted, use_data_dir
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.streams import console


class Args(Arguments):
    """Arguments of `steppe measure`."""

    checkpoint: Positional[Path]
    """A model.safetensors that steppe wrote, the folder of its run, or the id of the
    run, which for a store other than steppe-runs is STORE/ID."""
    measures: Positional[tuple[str, ...]] = ("top_eigenvalue", "trace", "lpf")
    """Measures, such as lpf:sigma=0.02; see `steppe list`."""
    samples: int = Field(default=2000, ge=1)
    """Samples to measure on, at most."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Seed of the random draws."""
    device: str | None = None
    """A torch device; the default is the one trained on."""
    trust: tuple[str, ...] = ()
    """Code of yours that the checkpoint may run, as module:function; no other is."""
    out: Path | None = None
    """Write the results as JSON to this file too."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Measure and print."""
    from steppe.measures import MEASURES
    from steppe_lab.studies.files import json_line, write_json
    from steppe_lab.studies.places import checkpoint_at
    from steppe_lab.studies.single import measure_one
    from steppe_lab.studies.trials import estimate_record

    use_data_dir(args.data_dir)
    if args.out is not None:
        check_place(args.out)
    found = measure_one(
        checkpoint_at(args.checkpoint, OUT),
        args.measures,
        part=args.part,
        samples=args.samples,
        seed=args.seed,
        device=args.device,
        trust=trusted(args.trust),
    )
    records = {name: estimate_record(estimate) for name, estimate in found.items()}
    if args.out is not None:
        write_json(args.out, records)
    if args.as_json:
        print(json_line(records), file=results)
        return 0
    table = Table("measure", "value", "standard error", "unit", "draws")
    for name, estimate in found.items():
        value = f"{estimate.value:.5g}" + ("" if estimate.converged else " (?)")
        error = f"{estimate.stderr:.2g}" if estimate.samples else "none drawn"
        unit = MEASURES[MEASURES.parse(name).name].spec.units
        table.add_row(name, value, error, unit, str(estimate.samples))
    page = console(results)
    page.print(table)
    terms = next(iter(found.values())).details["terms"]
    page.print(f"On {terms} {args.part} samples.", markup=False)
    if not all(estimate.converged for estimate in found.values()):
        page.print("(?) did not reach its accuracy; raise its budget.", markup=False)
    return 0
