"""An examination as files: a page for people, numbers for programs."""

from __future__ import annotations

import shlex
from pathlib import Path

from steppe_lab.analysis.examination import Examined
from steppe_lab.store.json_files import write_atomically, write_json
from steppe_lab.training.settings import options_of


def publish_examination(
    examined: Examined, page: Path, data_dir: Path | None = None
) -> tuple[Path, Path]:
    """Write the page, and the numbers beside it.

    Args:
        examined: the network and its numbers.
        page: an HTML file; the numbers are a JSON file of the same name.
        data_dir: folder with the files of data sets, for the command in the page.

    Returns:
        The paths of both.

    Raises:
        StoreError: a file cannot be written.
    """
    numbers = page.with_suffix(".json")
    command = command_of(examined, data_dir)
    text = examined.result.page(command=command, record=numbers.name)
    write_atomically(page, text.encode())
    network = examined.network
    about = {"path": str(network.path), "sha256": network.digest}
    write_json(numbers, {**examined.result.to_dict(), "checkpoint": about})
    return page, numbers


def command_of(examined: Examined, data_dir: Path | None = None) -> str:
    """The command that makes the same numbers; DIR for an unnamed data folder."""
    network, details = examined.network, examined.result.details
    words = ["steppe", "examine", str(network.path)]
    taken = {name: details[name] for name in ("samples", "curvature_samples")}
    words += options_of(examined.settings.model_copy(update=taken))
    words += network.belongs.options() if network.belongs else []
    words += ["--loss", "plain"] if network.plain else []
    if network.recipe.reads_files or data_dir is not None:
        words += ["--data-dir", str(data_dir or "DIR")]
    trusted = () if network.belongs else network.recipe.code
    words += ["--trust", *trusted] if trusted else []
    return shlex.join(words)
