"""Reports as files: the page and the rows of a comparison, written when they change."""

from __future__ import annotations

import shlex
from pathlib import Path

from steppe.errors import StoreError
from steppe.registry.registry import is_code
from steppe_lab.datasets import DATASETS
from steppe_lab.reports.comparison.page import render
from steppe_lab.reports.comparison.rows import to_csv
from steppe_lab.reports.text.provenance import made_with
from steppe_lab.runs.settings import CompareSettings
from steppe_lab.store.json_files import digest, write_atomically
from steppe_lab.studies.rows import Comparison
from steppe_lab.training.settings import options_of


def publish(
    comparison: Comparison,
    folder: Path,
    *,
    again: bool = False,
    data_dir: Path | None = None,
) -> Path:
    """Write the page, and the rows as CSV beside it, unless they are there.

    Args:
        comparison: with at least one row.
        folder: gets NAME.html and NAME.csv, and loses older ones of that name.
        again: write them even if these very rows have been reported.
        data_dir: folder with the files of data sets, for the command in the page.

    Returns:
        The path of the page.

    Raises:
        StoreError: there are no rows.
    """
    command = command_of(comparison.settings, data_dir)
    if not comparison.rows:
        raise StoreError(
            f"none of the {comparison.settings.runs} runs of "
            f"{comparison.settings.name} is finished; run `{command}`."
        )
    path = folder / f"{comparison.settings.name}.html"
    versions = made_with()
    rows = digest([to_csv(comparison), list(comparison.failures), versions])
    # A page is not written anew for each look at it, which would change its date.
    mark = f"<!-- rows {rows} -->\n"
    table = path.with_suffix(".csv")
    if not again and table.exists() and _ends_with(path, mark):
        return path
    page = render(comparison, command=command, versions=versions)
    # The page comes last: its mark says that the rows beside it are these.
    write_atomically(table, to_csv(comparison))
    write_atomically(path, page.rstrip() + "\n" + mark)
    return path


def command_of(settings: CompareSettings, data_dir: Path | None = None) -> str:
    """The command that makes a comparison, with options that are no defaults.

    Args:
        settings: of the comparison.
        data_dir: folder with the files of data sets; DIR stands for one that is needed
            and not known.
    """
    words = ["steppe", "compare", *settings.optimizers]
    words += options_of(settings, without="optimizers")
    name = DATASETS.parse(settings.data).name
    # Code of the user is not imported for the sake of a command line.
    needs = not is_code(name) and DATASETS[name].spec.needs_files
    if needs or data_dir is not None:
        words += ["--data-dir", str(data_dir or "DIR")]
    return shlex.join(words)


def _ends_with(path: Path, mark: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8").endswith(mark)
