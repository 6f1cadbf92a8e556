"""`steppe attack`: adversarial changes of the samples of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, TextIO

import tyro

from steppe.errors import SettingError
from steppe_lab.cli.options import (
    OUT,
    CheckpointArguments,
    belongs,
    part_of,
    trusted,
    use_data_dir,
)
from steppe_lab.cli.progress import in_tenths, progress
from steppe_lab.cli.streams import console, print_notes
from steppe_lab.runs.attack_settings import AttackSettings


class Args(CheckpointArguments, AttackSettings):
    """Arguments of `steppe attack`."""

    example: ClassVar = "steppe attack RUN@best --attacks fgsm,pgd,apgd --eps 8/255"

    out: Path | None = None
    """Folder for the files; the default is one below steppe-runs/attacks."""
    keep: Path = OUT
    """Folder where each attack that is done is kept, so that the same command goes on
    where it was stopped."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Attack, print the table, write the files."""
    from steppe_lab.analysis.attacking import attack_target, open_target
    from steppe_lab.analysis.places import checkpoint_at
    from steppe_lab.reports.attack.files import folder_for, publish_attacks
    from steppe_lab.reports.attack.page import RECORD
    from steppe_lab.reports.attack.tables import robust_table
    from steppe_lab.reports.attack.words import READING, answer, smallest
    from steppe_lab.store.folders import claim_folder
    from steppe_lab.store.json_files import json_line

    use_data_dir(args.data_dir)
    if args.loss is not None:
        raise SettingError(
            "attacks raise the cross-entropy of the classes, or a loss that is a "
            "setting of theirs, such as apgd:loss=dlr; leave --loss out."
        )
    settings = part_of(args, AttackSettings)
    with progress() as tell:
        target = open_target(
            checkpoint_at(args.checkpoint, OUT),
            settings,
            device=args.device,
            trust=trusted(args.trust),
            belongs=belongs(args),
        )
        folder = args.out or folder_for(target, settings, OUT)
        claim_folder(folder, RECORD, target.digest, holds="the attacks on")
        done = attack_target(target, settings, args.keep, report=in_tenths(tell))
        paths = publish_attacks(done, folder, data_dir=args.data_dir)
    if args.as_json:
        files = {name: str(path) for name, path in paths.items()}
        print(json_line({**done.record(), "files": files}), file=results)
        return 0
    page = console(results)
    for sentence in answer(done):
        page.print(sentence, markup=False)
    page.print(robust_table(done))
    for sentence in (READING, *smallest(done)):
        page.print(sentence, markup=False)
    print_notes(page, target.notes)
    page.print(f"\nReport: {paths['page']}", markup=False, soft_wrap=True)
    return 0
