"""Where a checkpoint lies: a file, the folder of a run, a store, or an id.

A name after @ is that of a checkpoint along the training: RUN@best, RUN@50.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path

from steppe.errors import CheckpointError
from steppe_lab.runs.training import CHECKPOINT
from steppe_lab.store.store import Store
from steppe_lab.training.callbacks.keeping import ENDING, FOLDER, LAST, name_of_epoch

_ID = re.compile(r"[0-9a-f]{4,16}")  # pages print the beginning of an id
_SHOWN = 5


def checkpoint_at(path: Path, store: Path) -> Path:
    """The checkpoint that a path or an id names.

    Args:
        path: a file; a folder that holds one, at any depth; or the id of a run or its
            beginning, bare or below a store as in DIR/0a1b2c3d. With @NAME after it,
            one that was kept along the training; a number is that of an epoch.
        store: the folder of runs that bare ids are looked for in.

    Raises:
        CheckpointError: nothing there, no checkpoint in it, or several.
    """
    kind = _mode(path)
    if kind == 0 and "@" in path.name:
        run, _, name = path.name.rpartition("@")
        return _kept(_run_at(path.with_name(run) if run else path.parent, store), name)
    if stat.S_ISDIR(kind):
        return _only(path, sorted(path.rglob(CHECKPOINT)))
    if kind == 0 and _ID.fullmatch(path.name):
        inside = path.parent if len(path.parts) > 1 else store
        return _training_of(path.name, inside)
    return path


def _run_at(path: Path, store: Path) -> Path:
    """The folder of a run; one that is not finished has checkpoints but no model."""
    if stat.S_ISDIR(_mode(path)) and (path / FOLDER).is_dir():
        return path
    if not stat.S_ISDIR(_mode(path)) and _ID.fullmatch(path.name):
        inside = path.parent if len(path.parts) > 1 else store
        return _training_of(path.name, inside).parent
    return checkpoint_at(path, store).parent


def _kept(run: Path, name: str) -> Path:
    """The checkpoint of a name along the training in the folder of a run."""
    if name == LAST:
        return run / CHECKPOINT
    number = name.removeprefix("epoch-")
    full = name_of_epoch(int(number)) if number.isdecimal() else name
    path = run / FOLDER / f"{full}{ENDING}"
    if path.is_file():
        return path
    names = sorted(p.name.removesuffix(ENDING) for p in path.parent.glob(f"*{ENDING}"))
    if not names:
        raise CheckpointError(
            f"{run} keeps no checkpoint but the last; train with --checkpoint-every to "
            "keep others."
        )
    raise CheckpointError(
        f"{run} keeps no checkpoint {name}; there is {', '.join([*names, LAST])}."
    )


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except OSError:  # whoever reads it says why
        return 0


def _only(folder: Path, checkpoints: list[Path]) -> Path:
    if not checkpoints:
        raise CheckpointError(
            f"{folder} holds no checkpoint of steppe; name a file of weights, or the "
            "folder of a run of `steppe train` or `steppe compare`."
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


def _id(name: str, folder: Path) -> str:
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
    return runs[0]


def _training_of(name: str, folder: Path) -> Path:
    """Where the network of a run is, or of the training that an analysis is about."""
    store, run = Store(folder), _id(name, folder)
    config = store.config(run)
    training = run if config.get("kind") == "training" else config.get("training")
    return store.artefact(str(training), CHECKPOINT)
