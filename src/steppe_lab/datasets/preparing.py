"""Vocabulary and tokens of a parallel text, which `steppe prepare` puts beside it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from steppe.errors import DataError
from steppe.registry.bounds import check_bounds
from steppe_lab.datasets.formats.parallel import Files, ParallelText
from steppe_lab.datasets.token_files import stale, write_tokens
from steppe_lab.datasets.vocabulary import (
    BOUNDS,
    SIZE,
    Vocabulary,
    learn_from,
    model_path,
    name_of,
    stored_model,
    stored_vocabulary,
    write_vocabulary,
)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A vocabulary and tokens in their files."""

    model: Path
    pieces: int
    sha256: str  # of the model
    learnt: bool  # by this call; else it was there
    encoded: bool  # by this call; else the tokens were there


def prepare(
    text: ParallelText,
    *,
    vocabulary: int = SIZE,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> Prepared:
    """Learn the vocabulary of a parallel text, and encode the text by it.

    Beside the text lie the model, its pieces to read, the tokens of each part and
    language, and records of what they were made from, which are written last. What is
    there already and was made from the same text stays.

    Args:
        text: of the data set.
        vocabulary: number of pieces.
        data_dir: folder with the files of data sets.
        out: another data folder for all of this, in which the text gets links; None
            for the folder of the text.

    Raises:
        DataError: text that is missing or damaged, or a folder that cannot be written.
        SettingError: a vocabulary that the text does not allow.
    """
    check_bounds({"vocabulary": vocabulary}, BOUNDS)
    folder, form = text.find(data_dir)
    place = folder if out is None else out / text.published.put_into
    try:
        known, learnt, encoded = _prepared(text, folder, form, place, vocabulary)
        if out is not None:
            _link(text.paths(folder, form), place)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise DataError(
            f"cannot write into {place}: {reason}; name another data folder with --out "
            "DIR."
        ) from error
    return Prepared(
        model=model_path(place, vocabulary),
        pieces=len(known.pieces),
        sha256=hashlib.sha256(known.model).hexdigest(),
        learnt=learnt,
        encoded=encoded,
    )


def _prepared(
    text: ParallelText, folder: Path, form: Files, place: Path, size: int
) -> tuple[Vocabulary, bool, bool]:
    """The vocabulary, whether it was learnt, and whether the text was encoded."""
    name, model = name_of(size), stored_model(place, size)
    if model and stale(text, folder, form, place, name, model) is None:
        return Vocabulary(model), False, False
    known, learnt = _vocabulary(text, folder, form, place, size)
    write_tokens(text, folder, form, place, name, known)
    return known, learnt, True


def _vocabulary(
    text: ParallelText, folder: Path, form: Files, place: Path, size: int
) -> tuple[Vocabulary, bool]:
    """The vocabulary, which is learnt where it is not there, and whether it was."""
    train = text.read(folder, form, "train")
    there = stored_vocabulary(text, place, size, train)
    if there is not None:
        return there, False
    learnt = learn_from(text, size, train)
    write_vocabulary(text, place, size, train, learnt)
    return learnt, True


def _link(paths: Sequence[Path], place: Path) -> None:
    """Let files lie in another folder too."""
    for path in paths:
        other = place / path.name
        if other.exists():
            continue
        with contextlib.suppress(OSError):  # of systems without links
            os.symlink(path.resolve(), other)
        if not other.exists():
            shutil.copyfile(path, other)
