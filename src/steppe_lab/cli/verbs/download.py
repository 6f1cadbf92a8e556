"""`steppe download`: published files of data sets, each compared with its digest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, TextIO

import tyro
from rich.table import Table
from tyro.conf import Positional

from steppe.errors import DataError, SettingError
from steppe_lab.cli.parsing import Arguments
from steppe_lab.cli.progress import counted, progress
from steppe_lab.cli.streams import console
from steppe_lab.progress import Report

if TYPE_CHECKING:
    from steppe_lab.datasets.downloads.download import Fetched


class Args(Arguments):
    """Arguments of `steppe download`."""

    example: ClassVar = "steppe download mnist cifar10 --data-dir data"

    data: Positional[tuple[str, ...]]
    """Data sets, such as mnist or tudataset:MUTAG; see `steppe list data`."""
    data_dir: Path | None = None
    """Folder with the files of data sets; STEPPE_DATA_DIR is the default."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print one JSON object instead of a table."""


def run(args: Args, results: TextIO) -> int:
    """Fetch, unpack, say where and which."""
    from steppe_lab.datasets import DATASETS
    from steppe_lab.datasets.downloads.download import download
    from steppe_lab.datasets.loading import folder_of_data
    from steppe_lab.store.json_files import json_line

    if not args.data:
        raise SettingError(
            "download takes the names of data sets, got none; write it as in `"
            f"{Args.example}`."
        )
    folder = args.data_dir or folder_of_data()
    if folder is None:
        raise DataError(
            "no data folder is given; name one with --data-dir DIR, which is made "
            "where it does not exist."
        )
    # All names are looked up before anything is fetched.
    choices = [DATASETS.parse(text) for text in args.data]
    fetched: list[tuple[str, Fetched]] = []
    with progress() as tell:
        for choice in choices:
            done = download(choice, folder, lambda file: _percent(tell, file))
            fetched += [(str(choice), each) for each in done]
    if args.as_json:
        rows = [
            {"data": name, **asdict(each), "place": str(each.place)}
            for name, each in fetched
        ]
        print(json_line({"fetched": rows}), file=results)
        return 0
    table = Table("data set", "place", "state")
    for name, each in fetched:
        table.add_row(name, str(each.place), _state(each))
    console(results).print(table)
    return 0


def _percent(report: Report, file: str) -> Callable[[int, int], None]:
    thinned = counted(report, f"percent of {file}")
    return lambda there, size: thinned(100 * there // size, 100)


def _state(fetched: Fetched) -> str:
    if fetched.sha256 is None:
        return "was there" + (", as published" if fetched.checked else "")
    known = "as published" if fetched.checked else "no digest is published"
    return f"{known}, SHA-256 {fetched.sha256[:12]}"
