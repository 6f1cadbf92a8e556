"""Folders of images, one for each class."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from steppe.errors import DataError
from steppe_lab.datasets.formats.published import read_limited

ENDINGS = (".jpeg", ".jpg", ".png")
WORDS = "words.txt"  # names of classes, in lines of folder, tab, words
MOST_BYTES = 2**24  # of a text file; the official ones have up to 3 MB


@dataclass(frozen=True)
class ImageFolder:
    """Files of images and their classes, in the order of their names.

    Args:
        names: of the files, below the folder of the data set.
        bytes: that each of them has.
        classes: of each file, by the name of its folder.
    """

    names: tuple[str, ...]
    bytes: tuple[int, ...]
    classes: tuple[str, ...]


def read_image_folder(folder: Path, part: str, again: str) -> ImageFolder:
    """Images in `part/CLASS/` or `part/CLASS/images/`.

    Args:
        folder: of the data set.
        part: folder in it that has a folder for each class.
        again: half sentence that says where to get intact files.

    Raises:
        DataError: no folders of classes, or one without images.
    """
    names: list[str] = []
    sizes: list[int] = []
    classes: list[str] = []
    place = folder / part
    of_classes = sorted(entry.name for entry in _entries(place) if entry.is_dir())
    if not of_classes and (beside := len(images_in(place))):
        # As the official archive of ImageNet's validation images is unpacked.
        raise DataError(
            f"{place} must have a folder of images for each class, got images "
            f"beside each other ({beside:,}); move each into one named after its class."
        )
    if not of_classes:
        raise DataError(
            f"{place} must have a folder of images for each class, got none; {again}."
        )
    for each in of_classes:
        below = f"{part}/{each}"
        if (folder / below / "images").is_dir():
            below += "/images"
        files = images_in(folder / below)
        if not files:
            raise DataError(
                f"{folder / below} must hold images, got none that end in "
                f"{', '.join(ENDINGS)}; {again}, or remove the folder."
            )
        names += [f"{below}/{name}" for name in files]
        sizes += files.values()
        classes += [each] * len(files)
    return ImageFolder(tuple(names), tuple(sizes), tuple(classes))


def images_in(folder: Path) -> dict[str, int]:
    """Number of bytes by the name of each image in a folder, sorted by name."""
    return {
        entry.name: entry.stat().st_size
        for entry in sorted(_entries(folder), key=lambda entry: entry.name)
        if entry.name.lower().endswith(ENDINGS) and entry.is_file()
    }


def numbered(
    folder: Path, train: ImageFolder, test: ImageFolder, again: str
) -> tuple[tuple[str, ...], tuple[Tensor, Tensor]]:
    """Classes in the order of their names, and the number of each file's class.

    Args:
        folder: of the data set.
        train: training images.
        test: test images, of the same classes.
        again: half sentence that says where to get intact files.

    Raises:
        DataError: other classes in one part than in the other.
    """
    classes = tuple(sorted(set(train.classes)))
    differing = sorted(set(classes) ^ set(test.classes))
    if differing:
        raise DataError(
            f"training and validation images in {folder} must be of the same classes, "
            f"got {differing[0]} in one of them alone; {again}."
        )
    number = {name: place for place, name in enumerate(classes)}
    targets, test_targets = (
        torch.tensor([number[each] for each in part.classes]) for part in (train, test)
    )
    return classes, (targets, test_targets)


def titles(folder: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Words for classes, from words.txt where it is there, else the classes."""
    path = folder / WORDS
    rows = lines_of(path) if path.is_file() else []
    known = {name: words for name, _, words in (row.partition("\t") for row in rows)}
    # The first of several words, unless two classes share it.
    first = {each: known.get(each, each).partition(",")[0].strip() for each in classes}
    shared = Counter(first.values())
    return tuple(
        word if word and shared[word] == 1 else f"{word} ({each})".strip()
        for each, word in first.items()
    )


def lines_of(path: Path) -> list[str]:
    """Lines of a text file that can be shown in a terminal."""
    text = read_limited(path, MOST_BYTES, "use the unchanged official file")
    lines = text.decode(errors="replace").splitlines()
    return ["".join(c for c in row if c == "\t" or c.isprintable()) for row in lines]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror}); check its permissions."
        ) from error
