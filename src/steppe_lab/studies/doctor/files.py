"""Files of runs by their checksums: the complaint about each, or none."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from steppe.errors import CheckpointError, SteppeError, StoreError
from steppe.files import TEMPORARY
from steppe_lab.store.json_files import read_record
from steppe_lab.training.checkpoints import Facts, read_facts, read_weights
from steppe_lab.training.state import opened

_TEMPORARY = (TEMPORARY, ".stolen", ".breaker")
_MOST = 2**33  # bytes of a kept state that is read


def complaint(error: SteppeError) -> str:
    """A refusal as a clause: without the fix of its end."""
    return str(error).partition(";")[0].strip().rstrip(".")


def read(path: Path) -> tuple[dict[str, Any] | None, str]:
    """A record, and the complaint about it; none where it is sound."""
    try:
        record: dict[str, Any] = read_record(path)
    except StoreError as error:
        return None, complaint(error)
    return record, ""


def facts_of(path: Path, *, quick: bool) -> tuple[Facts | None, str]:
    """The facts of a checkpoint, and the complaint about it.

    Args:
        path: of the checkpoint.
        quick: its weights are not read; a file that was cut off shows all the same.
    """
    try:
        if not quick:
            read_weights(path)
        return read_facts(path), ""
    except CheckpointError as error:
        return None, complaint(error)


def state_complaint(path: Path) -> str:
    """The complaint about a state to resume from; "" for a sound one."""
    try:
        if path.stat().st_size <= _MOST:
            opened(path.read_bytes())
    except (CheckpointError, OSError) as error:
        return f"{path} cannot be gone on from ({error})"
    return ""


def leftovers(folder: Path, names: Collection[str], before: float) -> Iterator[Path]:
    """Temporary files of writers that are gone: those that nobody has touched since.

    Args:
        folder: that they lie in.
        names: of its files.
        before: time, in seconds.
    """
    for name in names:
        if not (name.startswith(".") and name.endswith(_TEMPORARY)):
            continue
        path = folder / name
        try:
            if path.stat().st_mtime < before:
                yield path
        except OSError:  # its writer has finished
            continue


def listed(folder: Path) -> tuple[list[str], str]:
    """Names in a folder, and the complaint about it."""
    try:
        return sorted(os.listdir(folder)), ""
    except FileNotFoundError:
        return [], ""
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return [], f"{folder} cannot be read: {why}"


def is_readable(path: Path) -> bool:
    """Whether a file can be read, or all files that lie in a folder."""
    try:
        if path.is_dir():
            return all(is_readable(each) for each in path.iterdir() if each.is_file())
        with open(path, "rb") as file:
            file.read(1)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def plain(value: Any) -> str:
    """A text that is equal for equal settings."""
    return json.dumps(value, sort_keys=True, default=str)
