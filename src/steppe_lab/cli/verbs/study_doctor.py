"""`steppe study doctor`: damage in a store, its explanation and its repair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TextIO

import tyro

from steppe_lab.cli.options import OUT, trusted
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.progress import in_tenths, progress
from steppe_lab.cli.streams import console

if TYPE_CHECKING:
    from steppe_lab.studies.doctor.findings import Examination, Finding

SHOWN = 20  # findings of a severity


class Args(Arguments):
    """Arguments of `steppe study doctor`."""

    example: ClassVar = "steppe study doctor --out steppe-runs --fix"

    out: Path = OUT
    """Folder that holds the runs."""
    fix: bool = False
    """Mend what can be mended without loss: damaged things are moved to the folder
    damaged, and their runs are done again by the next steppe study run."""
    quick: bool = False
    """Look at records and names alone: weights and kept states are not read."""
    trust: tuple[str, ...] = ()
    """Code of yours that settings may name, as module:function: it is compared with
    the code that was run."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object with all findings instead of lines."""


def run(args: Args, results: TextIO) -> int:
    """Examine the store; 1 where something is damaged and not mended."""
    from steppe_lab.store.json_files import json_line
    from steppe_lab.studies.doctor.examine import examine
    from steppe_lab.studies.doctor.mend import mend

    with progress() as tell:
        examined = (mend if args.fix else examine)(
            args.out,
            quick=args.quick,
            trust=trusted(args.trust),
            progress=in_tenths(tell),
        )
    if args.as_json:
        print(json_line(examined.to_dict()), file=results)
    else:
        _print(examined, results)
    return 0 if examined.is_sound else 1


def _print(examined: Examination, results: TextIO) -> None:
    from steppe_lab.studies.doctor.findings import SEVERITIES

    page = console(results)
    counts = ", ".join(f"{n:,} {status}" for status, n in examined.runs.items())
    lines = [f"{examined.root}: {counts or 'no runs'}"]
    for severity in SEVERITIES:
        of_it = [each for each in examined.findings if each.severity == severity]
        lines += _lines(of_it)
    damaged = sum(each.counts for each in examined.findings)
    if damaged:
        more = any(each.repair for each in examined.findings if each.counts)
        hint = "; --fix mends what can be mended without loss" if more else ""
        lines.append(f"{damaged:,} damaged{hint}")
    else:
        read = "; weights were not read" if examined.quick else ""
        lines.append(f"nothing is damaged{read}")
    for line in lines:
        page.print(line, markup=False, soft_wrap=True)


def _lines(findings: Sequence[Finding]) -> list[str]:
    lines = []
    for each in findings[:SHOWN]:
        state = "mended" if each.mended else each.severity
        lines.append(f"{state}: {each.text}; {each.fix}.")
    if len(findings) > SHOWN:
        rest = len(findings) - SHOWN
        lines.append(f"... and {rest:,} more of this kind; --json has all.")
    return lines
