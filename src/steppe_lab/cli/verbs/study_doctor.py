"""`steppe study doctor`: damage in a store, its explanation and its repair."""

from __future__ import annotations

from collections import Counter
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
# Repairs that were done, as clauses and after a number.
DONE = {
    "set_aside": "it was moved to the folder damaged",
    "remove": "it was removed",
    "free": "the run was freed",
    "mark": "the marker was written",
    "migrate": "the store was brought to the format of this version",
}
COUNTED = {
    "set_aside": "moved to the folder damaged",
    "remove": "removed",
    "free": "freed",
    "mark": "marked",
    "migrate": "brought to the format of this version",
}


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
    mended = Counter(each.repair for each in examined.findings if each.mended)
    if mended:
        counted = [f"{n:,} {COUNTED[repair]}" for repair, n in sorted(mended.items())]
        lines.append(f"mended: {', '.join(counted)}")
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
        if each.mended:
            lines.append(f"mended: {each.text}; {DONE.get(each.repair, each.fix)}.")
        else:
            lines.append(f"{each.severity}: {each.text}; {each.fix}.")
    if len(findings) > SHOWN:
        rest = len(findings) - SHOWN
        lines.append(f"... and {rest:,} more of this kind; --json has all.")
    return lines
