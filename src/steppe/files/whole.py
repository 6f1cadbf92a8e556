"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

TEMPORARY = ".tmp"  # ending of names that are never read back


def replace_file(path: Path, content: bytes) -> None:
    """Write a whole file or nothing, synced to disk before it gets its name.

    Missing parent folders are made.

    Args:
        path: replaced when it exists; a crash leaves the version before.
        content: of the file.

    Raises:
        OSError: no space, no right to write, or a file where a folder must be.
    """
    # Beside the target, since a rename is atomic within one file system alone.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(6)}{TEMPORARY}"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Synced before the rename: a crash could leave the name without data.
        _write_synced(temporary, content)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(path.parent)  # or the new name itself is lost in a crash


def _write_synced(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        view = memoryview(content)
        while view:  # the system may take fewer bytes than asked
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    # Not every file system lets a folder be opened or synced; the file itself is.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
