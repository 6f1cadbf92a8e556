"""Files of the checkpoints along a training, in their order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from steppe.errors import CheckpointError
from steppe_lab.analysis.places import checkpoint_at
from steppe_lab.runs.training import CHECKPOINT
from steppe_lab.training.callbacks.keeping import ENDING, FOLDER, INITIAL, name_of_epoch

ENDINGS = (".pt", ".pth", ".t7", ".bin", ENDING)
_NUMBER = re.compile(r"(\d+)")
_EPOCH = re.compile(name_of_epoch(0).replace("0000", r"\d+"))


def training_files(paths: Sequence[Path], store: Path) -> list[Path]:
    """Files of checkpoints along a training.

    Args:
        paths: files as they are; a folder of a run stands for its initial weights,
            those of its epochs and the last; another folder for all files of weights in
            it, by the numbers in their names; the id of a run for its folder.
        store: the folder of runs that ids are looked for in.

    Raises:
        CheckpointError: nothing there, or a folder without a checkpoint.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir() and not (path / FOLDER).is_dir():
            files += _in_folder(path)
            continue
        place = path if path.is_dir() else checkpoint_at(path, store)
        if place.is_dir() or (place.name == CHECKPOINT and "@" not in path.name):
            files += _of_run(place if place.is_dir() else place.parent, path)
        else:
            files.append(place)
    missing = next((file for file in files if not file.is_file()), None)
    if missing is not None:
        raise CheckpointError(f"there is no file {missing}; give one of a checkpoint.")
    return files


def _of_run(run: Path, path: Path) -> list[Path]:
    """The initial weights, the epochs and the last weights of a run."""
    if not (run / FOLDER).is_dir():  # a single file, whatever it is called
        return [run / CHECKPOINT]
    kept = sorted((run / FOLDER).glob(f"*{ENDING}"))
    initial = [file for file in kept if file.stem == INITIAL]
    epochs = [file for file in kept if _EPOCH.fullmatch(file.stem)]
    last = [file for file in [run / CHECKPOINT] if file.is_file()]
    files = [*initial, *epochs, *last]
    if not files:
        raise CheckpointError(
            f"{path} keeps no checkpoint; train with --checkpoint-every."
        )
    return files


def _in_folder(folder: Path) -> list[Path]:
    files = [each for each in folder.iterdir() if each.suffix in ENDINGS]
    if not files:
        raise CheckpointError(
            f"{folder} holds no file that ends in {', '.join(ENDINGS)}; name files."
        )
    return sorted(files, key=_by_numbers)


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    """A key that sorts epoch-2 before epoch-10."""
    pieces = _NUMBER.split(path.stem)
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in pieces]
