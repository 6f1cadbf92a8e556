"""Where a checkpoint lies: a file, the folder of a run, a store, or an id."""

from __future__ import annotations

import re
import stat
from pathlib import Path

from steppe.errors import CheckpointError
from steppe_lab.runs.training import CHECKPOINT
from steppe_lab.store.store import Store

_ID = re.compile(r"[0-9a-f]{4,16}")  # pages print the beginning of an id
_SHOWN = 5


def checkpoint_at(path: Path, store: Path) -> Path:
    """The checkpoint that a path or an id names.

    Args:
        path: a file; a folder that holds one, at any depth; or the id of a run or its
            beginning, bare or below a store as in DIR/0a1b2c3d.
        store: the folder of runs that bare ids are looked for in.

    Raises:
        CheckpointError: nothing there, no checkpoint in it, or several.
    """
    kind = _mode(path)
    if stat.S_ISDIR(kind):
        return _only(path, sorted(path.rglob(CHECKPOINT)))
    if kind == 0 and _ID.fullmatch(path.name):
        inside = path.parent if len(path.parts) > 1 else store
        return _of_run(path.name, inside)
    return path


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # whoever reads it says why
        return 0


def _only(folder: Path, checkpoints: list[Path]) -> Path:
    if not checkpoints:
        raise CheckpointError(
            f"{folder} holds no checkpoint; give a model.safetensors that `steppe "
            "train` or `steppe compare` wrote, or the folder of its run."
        )
    if len(checkpoints) > 1:
        named = ", ".join(map(str, checkpoints[:_SHOWN]))
        more = (
            f" and {len(checkpoints) - _SHOWN} more"
            if len(checkpoints) > _SHOWN
            else ""
        )
        raise CheckpointError(
            f"{folder} holds {len(checkpoints)} checkpoints; give one of them: "
            f"{named}{more}."
        )
    return checkpoints[0]


def _of_run(name: str, folder: Path) -> Path:
    """The checkpoint of a run, or of the training that an analysis is about."""
    store = Store(folder)
    runs = [run for run in store.ids() if run.startswith(name)]
    if not runs:
        raise CheckpointError(
            f"there is no file {name} and no run {name} in {folder}; give a "
            "model.safetensors, or STORE/ID with the folder that --out named."
        )
    if len(runs) > 1:
        raise CheckpointError(
            f"several runs in {folder} begin with {name}: {', '.join(runs[:_SHOWN])}; "
            "give more of the id."
        )
    config = store.config(runs[0])
    run = runs[0] if config.get("kind") == "training" else config.get("training")
    return _only(store.folder(runs[0]), [store.artefact(str(run), CHECKPOINT)])
