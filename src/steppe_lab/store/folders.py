"""Folders for the files of one checkpoint, which those of another are kept out of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from steppe.errors import StoreError
from steppe_lab.store.json_files import cannot, read_json


def claim_folder(folder: Path, record: str, digest: str, *, holds: str) -> None:
    """Make a folder, unless it holds files of another checkpoint.

    Args:
        folder: for the files.
        record: name of the JSON file in it whose `checkpoint` has the `sha256`.
        digest: SHA-256 of the checkpoint.
        holds: what the files are, for the sentence, such as "the spectrum of".

    Raises:
        StoreError: it does, or the folder cannot be made.
    """
    path = folder / record
    try:
        folder.mkdir(parents=True, exist_ok=True)
        taken = path.exists()
    except OSError as error:
        raise cannot("write", folder, error) from error
    if not taken:
        return
    stored = read_json(path, fix="delete it, or name another --out")
    before = stored.get("checkpoint", {}) if isinstance(stored, Mapping) else {}
    if before.get("sha256") != digest:
        raise StoreError(
            f"{folder} holds {holds} another checkpoint ({before.get('path')}); "
            "name another --out."
        )
