"""Where a run was done: command, versions, commit and machine, beside its result.

None of it goes into the id of a run or into its result, which follow from the recipe
alone; a run that was stopped and gone on with has a record for each start.
"""

from __future__ import annotations

import functools
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from steppe.errors import StoreError
from steppe_lab.store.json_files import exists, read_json, write_json
from steppe_lab.training.checkpoints import versions

FILE = "provenance.json"
PATIENCE = 5.0  # seconds for git, which may have a slow disk before it
_PROCESSORS = Path("/proc/cpuinfo")


class Origin(BaseModel):
    """The part of a record that a page shows: no names of hosts, users or folders."""

    model_config = ConfigDict(frozen=True)

    steppe: str
    torch: str
    commit: str | None  # of the folder that the command ran in
    changed: bool | None  # whether tracked files differed from the commit
    processor: str
    threads: int
    device: str


def note_start(folder: Path, device: str, packed_with: int = 0) -> None:
    """Add a record of this start to those of a run.

    Args:
        folder: of the run.
        device: that is computed on.
        packed_with: number of other networks that are trained with it.

    Raises:
        StoreError: the file cannot be written.
    """
    packed = {"packed_with": packed_with} if packed_with else {}
    starts = {"starts": [*_starts(folder), record(device) | packed]}
    write_json(folder / FILE, starts, survives="content")


def packed_with(folder: Path) -> int:
    """The most other networks that a run was trained with at any of its starts.

    Its numbers are those of a training alone to rounding, where this is not 0.

    Args:
        folder: of the run.
    """
    starts = (each for each in _starts(folder) if isinstance(each, dict))
    counts = (each.get("packed_with") for each in starts)
    return max((count for count in counts if isinstance(count, int)), default=0)


def record(device: str) -> dict[str, Any]:
    """Command, folder, commit, versions and machine of this process.

    Args:
        device: that is computed on.
    """
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "argv": sys.argv,
        "folder": os.getcwd(),
        "git": git_state(os.getcwd()),
        "versions": versions(),
        "machine": {
            "host": socket.gethostname(),
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "device": _device_name(device),
            # Several GPUs may have one name.
            "gpu": torch.cuda.current_device() if "cuda" in device else None,
        },
    }


@functools.cache
def git_state(folder: str) -> Mapping[str, Any] | None:
    """Commit of a folder, and whether tracked files differ from it.

    Returns:
        None where there is no git, no repository or no commit: a training goes on
        without. "changed" is None where git takes too long to tell.
    """
    commit = _git(folder, "rev-parse", "HEAD")
    if not commit:
        return None
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "changed": None if changes is None else changes != ""}


def origins(folders: Iterable[Path]) -> tuple[Origin, ...]:
    """Different origins of runs, in their order; those without a record have none.

    Args:
        folders: of the runs.
    """
    each = (_origin(start) for folder in folders for start in _starts(folder))
    return tuple(dict.fromkeys(origin for origin in each if origin is not None))


def _origin(start: Any) -> Origin | None:
    try:
        git, machine = start["git"] or {}, start["machine"]
        return Origin.model_validate(
            {
                "steppe": start["versions"]["steppe"],
                "torch": start["versions"]["torch"],
                "commit": git.get("commit"),
                "changed": git.get("changed"),
                **{name: machine[name] for name in ("processor", "threads", "device")},
            }
        )
    except (KeyError, TypeError, AttributeError, ValidationError):
        return None  # somebody has edited it; no result depends on it


def _starts(folder: Path) -> list[Any]:
    try:
        if not exists(folder / FILE):
            return []
        content = read_json(folder / FILE)
    except StoreError:  # damaged: no result depends on it
        return []
    starts = content.get("starts") if isinstance(content, dict) else None
    return starts if isinstance(starts, list) else []


def _git(folder: str, *words: str) -> str | None:
    # Without its monitor, which may be a program of the repository's own.
    command = ["git", "-c", "core.fsmonitor=false", "-C", folder, *words]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return None if done.returncode else done.stdout.decode(errors="replace").strip()


@functools.cache
def _processor() -> str:
    """The processor as the system names it, else its kind."""
    try:
        lines = _PROCESSORS.read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if "cuda" in device else device
