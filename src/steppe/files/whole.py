"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Literal

Survives = Literal["name", "content", "nothing"]

TEMPORARY = ".tmp"  # ending of names that are never read back


def replace_file(path: Path, content: bytes, *, survives: Survives = "name") -> None:
    """Write a whole file or nothing; missing parent folders are made.

    The end of a process at any moment leaves the file as it was or as it shall be.

    Args:
        path: replaced when it exists; a crash leaves the version before.
        content: of the file.
        survives: when the power fails. "name": the file. "content": the file or the
            state before it, until its folder is synced. "nothing": it may be empty,
            for what is checked when it is read and can be made again.

    Raises:
        OSError: no space, no right to write, or a file where a folder must be.
    """
    # Beside the target, since a rename is atomic within one file system alone.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}{TEMPORARY}"
    made = make_folder(path.parent)
    try:
        # Synced before the rename: a crash could leave the name without data.
        written = _write(temporary, content, synced=survives != "nothing")
        _rename(temporary, path, written)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if survives == "name":  # else the new names themselves are lost in a crash
        for folder in (path.parent, *(each.parent for each in made)):
            sync_folder(folder)


def make_folder(folder: Path) -> list[Path]:
    """Make a folder and its parents; those that were missing, the innermost first."""
    made = []
    missing = folder
    while not missing.is_dir():
        made.append(missing)
        if missing.parent == missing:
            break
        missing = missing.parent
    folder.mkdir(parents=True, exist_ok=True)
    return made


def sync_folder(folder: Path) -> None:
    """Sync the names in a folder to disk, where the file system can."""
    # Not every file system lets a folder be opened or synced; the file itself is.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _write(path: Path, content: bytes, *, synced: bool) -> os.stat_result:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(content)
        while view:  # the system may take fewer bytes than asked
            view = view[os.write(descriptor, view) :]
        if synced:
            os.fsync(descriptor)
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _rename(temporary: Path, path: Path, written: os.stat_result) -> None:
    try:
        os.replace(temporary, path)
    except FileNotFoundError:
        # A server whose answer was lost is asked twice, and the second time there is
        # nothing left to rename.
        if not (path.exists() and os.path.samestat(path.stat(), written)):
            raise
