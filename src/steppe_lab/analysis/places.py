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


def checkpoint_at(given: Path, store: Path) -> Path:
    """The checkpoint that a path or an id names.

    Args:
        given: a file; a folder that holds one, at any depth; or the id of a run or its
            beginning, bare or below a store as in DIR/0a1b2c3d.
        store: the folder of runs that bare ids are looked for in.

    Raises:
        CheckpointError: nothing there, no checkpoint in it, or several.
    """
    kind = _mode(given)
    if stat.S_ISDIR(kind):
        return _only(given, sorted(given.rglob(CHECKPOINT)))
    if kind == 0 and _ID.fullmatch(given.name):
        inside = given.parent if len(given.parts) > 1 else store
        return _of_run(given.name, inside)
    return given


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # whoever reads it says why
        return 0


def _only(folder: Path, there: list[Path]) -> Path:
    if not there:
        raise CheckpointError(
            f"{folder} holds no checkpoint; give a model.safetensors that `steppe "
            "train` or `steppe compare` wrote, or the folder of its run."
        )
    if len(there) > 1:
        named = ", ".join(map(str, there[:_SHOWN]))
        more = f" and {len(there) - _SHOWN} more" if len(there) > _SHOWN else ""
        raise CheckpointError(
            f"{folder} holds {len(there)} checkpoints; give one of them: {named}{more}."
        )
    return there[0]


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
