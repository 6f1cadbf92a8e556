"""The file that a training is to start from, put into the store under its SHA-256."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from steppe.errors import CheckpointError
from steppe_lab.analysis.places import checkpoint_at
from steppe_lab.runs.settings import TrainingSettings
from steppe_lab.runs.training import CHECKPOINT
from steppe_lab.store.json_files import write_atomically
from steppe_lab.store.store import Store
from steppe_lab.training import checkpoints
from steppe_lab.training.callbacks.keeping import FOLDER, LAST, STATE_ENDING
from steppe_lab.training.settings import SHA256
from steppe_lab.training.starts import name_of, note_origin, path_in, read_start

Settings = TypeVar("Settings", bound=TrainingSettings)


def with_start(settings: Settings, store: Store) -> Settings:
    """Settings that name the file to start from by its contents.

    The store gets a copy, so that a run can be gone on with when the file is gone.

    Args:
        settings: of trainings; those that name no file are given back.
        store: of their runs, in which RUN@best is looked for.

    Raises:
        CheckpointError: no file, one without weights, or without an optimizer where
            its state is asked for.
        StoreError: the file cannot be read or written.
    """
    text = settings.start_from
    if not text or text.startswith(SHA256):
        return settings
    path = checkpoint_at(Path(text), store.root)
    if settings.with_optimizer and checkpoints.is_ours(path):
        path = _state_beside(path)
    read_start(path)
    contents = path.read_bytes()
    name = name_of(contents)
    write_atomically(path_in(store.root, name), contents)
    note_origin(store.root, name, path)
    return settings.model_copy(update={"start_from": name})


def _state_beside(path: Path) -> Path:
    """The state of the training that a checkpoint of steppe is of."""
    beside = path.with_name(path.stem + STATE_ENDING)
    if path.name == CHECKPOINT:
        beside = path.parent / FOLDER / f"{LAST}{STATE_ENDING}"
    if not beside.is_file():
        raise CheckpointError(
            f"there is no state of an optimizer beside {path}; train it with "
            "--checkpoint-every N --checkpoint-optimizer, or leave out "
            "--with-optimizer."
        )
    return beside
