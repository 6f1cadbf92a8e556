"""`steppe spectrum`: the spectrum of a checkpoint, with pictures and a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro

from steppe_lab.cli.options import (
    OUT,
    CheckpointArguments,
    belongs,
    loss_kind,
    trusted,
    use_data_dir,
)
from steppe_lab.cli.progress import in_tenths, progress
from steppe_lab.cli.streams import console, print_notes
from steppe_lab.runs.settings import SpectrumSettings


class Args(CheckpointArguments, SpectrumSettings):
    """Arguments of `steppe spectrum`."""

    example: ClassVar = "steppe spectrum steppe-runs/runs/ID --k 10 --steps 200"

    out: Path | None = None
    """Folder for the files; the default is one below steppe-runs/spectra."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of tables."""


def run(args: Args, results: TextIO) -> int:
    """Find the spectrum, print it, write its files."""
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.analysis.spectrum import (
        open_network,
        spectrum_of,
        spectrum_record,
    )
    from steppe_lab.reports.spectrum.files import folder_for, publish_spectrum
    from steppe_lab.reports.spectrum.page import RECORD
    from steppe_lab.reports.spectrum.tables import (
        ends_table,
        layers_table,
        sums_table,
    )
    from steppe_lab.reports.spectrum.words import answer, doubts, layers_note
    from steppe_lab.store.folders import claim_folder
    from steppe_lab.store.json_files import json_line

    use_data_dir(args.data_dir)
    names = SpectrumSettings.model_fields
    settings = SpectrumSettings(**{name: getattr(args, name) for name in names})
    with progress() as tell:
        network = open_network(
            checkpoint_at(args.checkpoint, OUT),
            settings,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
            loss=loss_kind(args),
        )
        folder = args.out or folder_for(network, settings, OUT)
        claim_folder(folder, RECORD, network.digest, holds="the spectrum of")
        result = spectrum_of(network, settings, report=in_tenths(tell))
        paths = publish_spectrum(result, folder, data_dir=args.data_dir)
    if args.as_json:
        files = {name: str(path) for name, path in paths.items()}
        print(json_line({**spectrum_record(result), "files": files}), file=results)
        return 0
    page = console(results)
    for sentence in answer(result):
        page.print(sentence, markup=False)
    tables = [ends_table(result)] if settings.k else []
    for table in (*tables, sums_table(result), layers_table(result)):
        page.print(table)
    for sentence in (layers_note(result.layers), *doubts(result)):
        page.print(sentence, markup=False)
    print_notes(page, network.notes)
    page.print(f"\nReport: {paths['page']}", markup=False, soft_wrap=True)
    return 0
