"""Finding the published files of a data set under the folder a user names."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from steppe.errors import DataError


@dataclass(frozen=True)
class Download:
    """A file that its publisher lets anybody have.

    Args:
        url: of the file itself.
        size: its bytes; None where they are not known.
        digest: as published or well known, "sha256:..." or "md5:..."; None where there
            is none.
    """

    url: str
    size: int | None = None
    digest: str | None = None

    @property
    def file(self) -> str:
        """Name of the file."""
        return self.url.rpartition("/")[2]


@dataclass(frozen=True, kw_only=True)
class Published:
    """Where the official files of a data set come from and where they may lie.

    Texts may hold settings of the data set in braces, which `named` fills
    in.
    """

    title: str  # name of the data set in sentences
    url: str  # where the files can be downloaded
    name: str = ""  # as --data takes it
    folders: tuple[str, ...]  # under the data folder, best first; "." is itself
    put_into: str  # of the folders, the one a download is advised to go to
    suffixes: tuple[str, ...] = ("",)  # endings a file may have
    # other names that files may have, best first, by the one that is looked for
    aliases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    unpack: bool = False  # the download is an archive
    of_folders: bool = False  # folders are looked for, and not files
    downloads: tuple[Download, ...] = ()  # none: for registered users alone
    top: str = ""  # folder that comes out of the archive; "" where there is none

    def named(self, settings: Mapping[str, Any]) -> Published:
        """The same with settings in the place of their names in braces."""

        def filled(text: str) -> str:
            for key, value in settings.items():
                text = text.replace(f"{{{key}}}", str(value))
            return text

        return replace(
            self,
            name=filled(self.name),
            title=filled(self.title),
            url=filled(self.url),
            folders=tuple(map(filled, self.folders)),
            put_into=filled(self.put_into),
            top=filled(self.top),
            downloads=tuple(replace(d, url=filled(d.url)) for d in self.downloads),
        )

    def fix(self, target: Path | str) -> str:
        """The half sentence that names the download and the place for it."""
        act = "unpack" if self.unpack else "put"
        return f"download it from {self.url} and {act} it into {target}"

    def find(self, folder: Path, name: str) -> Path | None:
        """The file of that name, or of another that it has, with one of the endings."""
        paths = (folder / each for each in self._names(name))
        there = Path.is_dir if self.of_folders else Path.is_file
        return next(filter(there, paths), None)

    def _names(self, name: str) -> list[str]:
        names = (name, *self.aliases.get(name, ()))
        return [f"{each}{suffix}" for each in names for suffix in self.suffixes]

    def require(self, folder: Path, name: str) -> Path:
        """The file of that name in a folder.

        Raises:
            DataError: it is not there.
        """
        path = self.find(folder, name)
        if path is None:
            raise self.missing(name, [folder], folder)
        return path

    def missing(
        self, name: str, looked: Iterable[Path], target: Path | str
    ) -> DataError:
        """One sentence: which file, looked for where, from where, to where."""
        also = "".join(f" or {each}" for each in self._names(name) if each != name)
        where = ", ".join(map(str, looked))
        verb = (
            f"run `steppe download {self.name} --data-dir DIR`, or "
            if self.downloads
            else ""
        )
        kind = "folder" if self.of_folders else "file"
        return DataError(
            f"{self.title} needs the {kind} {name}{also}, which is not in {where}; "
            f"{verb}{self.fix(target)}."
        )


def folder_of(
    published: Published, data_dir: Path | None, names: Sequence[str]
) -> Path:
    """The first folder that holds all the files; files of two folders never mix.

    Args:
        published: where the files come from and where they may lie.
        data_dir: the folder the user names.
        names: the files that must be there, without their endings.

    Raises:
        DataError: no such folder, or none of the places holds all the files.
    """
    if data_dir is None:
        raise DataError(
            f"{published.title} is read from files and no data folder is given: name "
            f"one with --data-dir DIR; {published.fix(f'DIR/{published.put_into}')}."
        )
    if not _is_folder(data_dir):
        raise DataError(
            f"the data folder must be an existing folder, got {data_dir}; name the "
            f"folder that holds the folder {published.put_into} with --data-dir DIR."
        )
    places = [data_dir / folder for folder in published.folders]
    lacking = {p: [n for n in names if not published.find(p, n)] for p in places}
    best = min(places, key=lambda place: len(lacking[place]))
    if not lacking[best]:
        return best
    partly = len(lacking[best]) < len(names)
    looked, target = (
        ([best], best) if partly else (places, data_dir / published.put_into)
    )
    raise published.missing(lacking[best][0], looked, target)


def share_of(
    published: Published, data_dir: Path | None, names: Sequence[str]
) -> float:
    """Share of files that lie in one of the places of a data set, the best of them.

    Args:
        published: where the files may lie.
        data_dir: the folder the user names.
        names: of the files, without their endings.
    """
    if data_dir is None or not _is_folder(data_dir):
        return 0.0
    places = [data_dir / folder for folder in published.folders]
    there = (sum(published.find(p, n) is not None for n in names) for p in places)
    return max(there) / len(names)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # such as a name that is too long
        return False


def read_limited(path: Path, most: int, again: str) -> bytes:
    """All bytes of a file that has no more than `most`.

    Args:
        path: the file.
        most: bytes that it may have.
        again: half sentence that says where to get an intact file.

    Raises:
        DataError: it has more, or cannot be read.
    """
    return b"".join(limited_pieces(path, most, again))


def limited_pieces(path: Path, most: int, again: str) -> Iterator[bytes]:
    """The same piece by piece, so that a file larger than memory can be read."""
    left = most
    for piece in _pieces(path, most + 1, again):
        left -= len(piece)
        if left < 0:
            raise DataError(
                f"{path} has more than {most:,} bytes, which no official file has; "
                f"{again}."
            )
        yield piece


def read_start(path: Path, most: int, again: str) -> bytes:
    """The first bytes of a file, decompressed when they are gzip.

    No more is decompressed: a small file of gzip can hold any number of zeros.

    Args:
        path: the file.
        most: bytes to read.
        again: half sentence that says where to get an intact file.

    Raises:
        DataError: the file cannot be read or its gzip stream is damaged.
    """
    return b"".join(_pieces(path, most, again))


def _pieces(path: Path, most: int, again: str) -> Iterator[bytes]:
    """The first bytes of a file in pieces.

    A read of so many bytes at once would make room for all of them.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not compressed:
                yield from _first(file, most)
                return
            with gzip.GzipFile(fileobj=file) as stream:
                yield from _first(stream, most)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} is a damaged or truncated gzip file ({error}); {again}."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); check its permissions."
        ) from error


def _first(stream: IO[bytes] | gzip.GzipFile, most: int) -> Iterator[bytes]:
    while most and (piece := stream.read(min(most, 2**20))):
        yield piece
        most -= len(piece)
