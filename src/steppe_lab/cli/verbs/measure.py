"""`steppe measure`: the flatness of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import tyro
from pydantic import Field
from rich.table import Table
from tyro.conf import Positional

from steppe_lab.cli.messages import say
from steppe_lab.cli.options import OUT, belongs, check_place, trusted, use_data_dir
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.streams import console

if TYPE_CHECKING:
    from steppe.results import Estimate


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
    model: str | None = None
    """The network of weights that another program saved, as name:setting=value."""
    data: str | None = None
    """The data that such weights were trained on."""
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
    """Measure and print; refused measures are named, and exit with 1."""
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.analysis.single import measure_one
    from steppe_lab.store.json_files import json_line, write_json
    from steppe_lab.store.records import estimate_record

    use_data_dir(args.data_dir)
    if args.out is not None:
        check_place(args.out)
    estimates = measure_one(
        checkpoint_at(args.checkpoint, OUT),
        args.measures,
        part=args.part,
        samples=args.samples,
        seed=args.seed,
        device=args.device,
        trust=trusted(args.trust),
        belongs=belongs(args.model, args.data),
    )
    records = {name: estimate_record(estimate) for name, estimate in estimates.items()}
    if args.out is not None:
        write_json(args.out, records)
    lacks = {name: e.refusal for name, e in estimates.items() if e.refusal}
    if args.as_json:
        print(json_line(records), file=results)
    else:
        _show(args, estimates, results)
    for name, refusal in lacks.items():
        say(f"{name} was not measured: {refusal}")
    return 1 if lacks else 0


def _show(args: Args, estimates: Mapping[str, Estimate], results: TextIO) -> None:
    from steppe.measures import MEASURES

    table = Table("measure", "value", "standard error", "unit", "draws")
    given = {name: e for name, e in estimates.items() if not e.refusal}
    for name, estimate in given.items():
        value = f"{estimate.value:.5g}" + ("" if estimate.converged else " (?)")
        error = f"{estimate.stderr:.2g}" if estimate.samples else "none drawn"
        unit = MEASURES[MEASURES.parse(name).name].spec.units
        table.add_row(name, value, error, unit, str(estimate.samples))
    page = console(results)
    page.print(table)
    terms = next(iter(given.values())).details["terms"]
    page.print(f"On {terms} {args.part} samples.", markup=False)
    if not all(estimate.converged for estimate in given.values()):
        page.print("(?) did not reach its accuracy; raise its budget.", markup=False)
