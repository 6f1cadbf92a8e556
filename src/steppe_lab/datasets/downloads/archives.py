"""Archives of strangers: files and folders come out of them, and nothing else."""

from __future__ import annotations

import contextlib
import functools
import lzma
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from steppe.errors import DataError

MOST_BYTES = 2**33  # of all files of an archive
MOST_FILES = 1_000_000
BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError),
)


@dataclass(frozen=True)
class _Member:
    """An entry of an archive; a folder has no content, and a link is of no kind."""

    name: str
    kind: str  # file, folder, or another in words
    size: int  # bytes


Members = Generator[tuple[_Member, Callable[[], IO[bytes]]], None, None]


def unpack(archive: Path, folder: Path, top: str) -> Path:
    """Unpack an archive whose entries all lie in one folder.

    That folder gets its name when all is there; nothing that exists is written to.

    Args:
        archive: tar, plain or compressed, or zip.
        folder: where the one folder comes to lie.
        top: name of that folder.

    Returns:
        The folder.

    Raises:
        DataError: a damaged archive, entries that are no files or folders or lie
            outside, too many of them, or no space.
    """
    target = folder / top
    try:
        with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=folder) as place:
            try:
                _extract(archive, Path(place), top)
            except BROKEN as error:
                reason = str(error).partition("\n")[0] or type(error).__name__
                raise DataError(
                    f"{archive} is a damaged archive ({reason}); remove it and fetch "
                    "it again."
                ) from error
            (Path(place) / top).rename(target)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(
            f"{archive} cannot be unpacked into {folder} ({reason}); make room there, "
            "and check its permissions."
        ) from error
    return target


def _extract(archive: Path, place: Path, top: str) -> None:
    with contextlib.closing(_members(archive)) as members:
        _write(archive, members, place, top)
    if not (place / top).is_dir():
        raise DataError(f"{archive} must hold a folder {top}, got none.")


def _write(archive: Path, members: Members, place: Path, top: str) -> None:
    total = 0
    for number, (member, content) in enumerate(members):
        refused = _refused(member, top)
        total += member.size
        if number >= MOST_FILES or total > MOST_BYTES:
            refused = f"it holds more than {MOST_FILES:,} files or {MOST_BYTES:,} bytes"
        if refused:
            raise DataError(
                f"{archive} is refused: {refused}; nothing of it was kept, fetch it "
                "from its publisher."
            )
        target = place / member.name
        if member.kind == "folder":
            target.mkdir(parents=True, exist_ok=True)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        # Written anew and not over a file, whatever the archive says of owner and mode.
        with target.open("xb") as file, content() as source:
            shutil.copyfileobj(source, file)


def _refused(member: _Member, top: str) -> str:
    """The rule that an entry breaks, in words; "" for none."""
    path = PurePosixPath(member.name)
    strange = "\\" in member.name or ":" in member.name or "\0" in member.name
    shown = repr(member.name[:80])
    if path.is_absolute() or ".." in path.parts or strange:
        return f"its entry {shown} lies outside of it"
    if member.kind not in ("file", "folder"):
        return f"its entry {shown} is a {member.kind}"
    if path.parts[:1] != (top,):
        return f"its entry {shown} is not in the folder {top}"
    return ""


def _members(archive: Path) -> Members:
    """Entries in the order of the archive, and how to open the content of each."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                kind = "folder" if info.is_dir() else "file"
                mode = stat.S_IFMT(info.external_attr >> 16)
                if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
                    kind = "link or device"
                member = _Member(info.filename.rstrip("/"), kind, info.file_size)
                yield member, functools.partial(packed.open, info)
        return
    with archive.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|*") as stream:
        for entry in stream:
            kind = "file" if entry.isreg() else "link or device"
            kind = "folder" if entry.isdir() else kind
            content: Any = functools.partial(stream.extractfile, entry)
            yield _Member(entry.name, kind, entry.size), content
