"""The published files of a data set, into the folder they are looked for in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import DataError, SettingError
from steppe.registry.registry import Choice
from steppe_lab.datasets.abstract import DATASETS
from steppe_lab.datasets.downloads.archives import unpack
from steppe_lab.datasets.downloads.transfer import fetch, is_published
from steppe_lab.datasets.formats.published import Download, Published

Report = Callable[[str], Callable[[int, int], None]]  # of the file of a name


@dataclass(frozen=True)
class Fetched:
    """A file or an unpacked archive, and where it lies."""

    place: Path
    sha256: str | None  # of what came from the server; None where it was there before
    checked: bool  # against a published digest


def download(which: Choice | str, data_dir: Path, report: Report) -> list[Fetched]:
    """Fetch the files of a data set; those that are there already are left alone.

    Args:
        which: the data set, with settings where they name its files.
        data_dir: folder of data sets; made where it does not exist.
        report: called with the name of each file, returns a function of the bytes that
            are there and those of all.

    Raises:
        UnknownNameError: no such data set.
        SettingError: a setting that names no file.
        DataError: a publisher that gives files to registered users alone, a set without
            files, other files in their place, or a download that failed.
    """
    choice = DATASETS.parse(which) if isinstance(which, str) else which
    published = DATASETS[choice.name].spec.published
    if published is None:
        raise DataError(
            f"{choice.name} has no published files: it is your own code, or ships with "
            "a package."
        )
    published = published.named(choice.settings)
    for name in (published.top, *(each.file for each in published.downloads)):
        if Path(name).name != name:
            raise SettingError(f"{choice} must name files of a data set, got '{name}'.")
    folder = data_dir / published.put_into
    if not published.downloads:
        raise DataError(
            f"{published.title} is given to registered users alone; register at "
            f"{published.url}, fetch the files there and unpack them into {folder}."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"the folder {folder} cannot be made ({reason}); name another one with "
            "--data-dir DIR."
        ) from error
    each = _archive if published.top else _file
    return [each(one, published, folder, report) for one in published.downloads]


def _file(
    download: Download, published: Published, folder: Path, report: Report
) -> Fetched:
    path = folder / download.file
    there = _is_there(download, published, path)
    digest = None if there else fetch(download, path, report(download.file))
    return Fetched(path, digest, download.digest is not None)


def _archive(
    download: Download, published: Published, folder: Path, report: Report
) -> Fetched:
    place = folder / published.top
    if place.exists():
        return Fetched(place, None, False)
    archive = folder / download.file
    if _is_there(download, published, archive):
        unpack(archive, folder, published.top)  # and kept: somebody else put it there
        return Fetched(place, None, download.digest is not None)
    digest = fetch(download, archive, report(download.file))
    unpack(archive, folder, published.top)
    archive.unlink()
    return Fetched(place, digest, download.digest is not None)


def _is_there(download: Download, published: Published, path: Path) -> bool:
    """Whether a published file is there; another one in its place is refused."""
    if not path.exists():
        return False
    if not path.is_file() or not is_published(download, path):
        raise DataError(
            f"{path} is not the file that {published.title} was published with; "
            "move it away, or name another folder with --data-dir DIR."
        )
    return True
