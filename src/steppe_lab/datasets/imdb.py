"""Film reviews, positive or negative, 25,000 for training and 25,000 for test.

Source: Maas et al., 2011, Learning word vectors for sentiment analysis; a text file for
each review in aclImdb/train/pos, train/neg, test/pos and test/neg.
"""

from __future__ import annotations

from pathlib import Path

import torch

from steppe.errors import DataError
from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.datasets.abstract import DATASETS, Dataset, note_on_count
from steppe_lab.datasets.formats.published import Download, Published, folder_of
from steppe_lab.datasets.formats.text import read_lines
from steppe_lab.datasets.texts import SPECIAL, TextSamples
from steppe_lab.datasets.words import WordVocabulary

URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
TOP = "aclImdb"
PUBLISHED = Published(
    name="imdb",
    title="IMDB",
    url=URL,
    # No digest is published; this MD5 is that of many programs.
    downloads=(Download(URL, 84125825, "md5:7c2ac02c03563afcf9b574c7e56c153a"),),
    top=TOP,
    folders=(TOP, f"imdb/{TOP}", "imdb", "."),
    put_into=".",
    unpack=True,
    of_folders=True,
)
KERAS = "imdb.npz"
CLASSES = {"neg": "negative", "pos": "positive"}  # by folder
OFFICIAL = 25_000  # reviews of each part
MOST_FILES = 200_000  # of a class
MOST_BYTES = 2**20  # of a review; the longest has 14 kB
BOUNDS: Ranges = {
    "words": at_least(len(SPECIAL) + 1),
    "length": Range(1, 10_000, whole=True),
}
# Marks that Keras' tokenizer takes for spaces; an apostrophe is part of a word.
MARKS = str.maketrans(dict.fromkeys('!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t', " "))


@DATASETS.add(
    "imdb",
    source="Maas et al., 2011, Learning word vectors for sentiment analysis",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    bounds=BOUNDS,
)
def imdb(
    *, data_dir: Path | None = None, words: int = 5000, length: int = 400
) -> Dataset:
    """Film reviews in two classes, from the official archive.

    Words are those of Keras' tokenizer. Difference from Keras' own file: the vocabulary
    is that of the training reviews alone, and no number is left unused.

    Args:
        data_dir: folder that holds aclImdb, imdb or the folders train and test.
        words: size of the vocabulary, with padding, beginning and unknown words.
        length: tokens of a review; longer ones lose their beginning.
    """
    try:
        folder = folder_of(PUBLISHED, data_dir, ["train", "test"])
    except DataError as error:
        raise _of_keras(data_dir) or error from None
    again = PUBLISHED.fix(folder)
    reviews: dict[str, list[list[str]]] = {}
    targets: dict[str, torch.Tensor] = {}
    notes: tuple[str, ...] = ()
    for part in ("train", "test"):
        each = {of: _reviews(folder / part / of, again) for of in CLASSES}
        reviews[part] = [words for texts in each.values() for words in texts]
        counts = torch.tensor([len(texts) for texts in each.values()])
        targets[part] = torch.arange(len(CLASSES)).repeat_interleave(counts)
        title = "training" if part == "train" else part
        notes += note_on_count(title, len(reviews[part]), OFFICIAL, "reviews")
    vocabulary = WordVocabulary.of(reviews["train"], first=SPECIAL, most=words)
    train, test = (
        TextSamples.of(reviews[part], targets[part], vocabulary, length)
        for part in ("train", "test")
    )
    return Dataset(
        name="imdb",
        train=train,
        test=test,
        classes=tuple(CLASSES.values()),
        notes=notes,
    )


def _of_keras(data_dir: Path | None) -> DataError | None:
    """One sentence on the file of Keras, where that is all there is."""
    places = [data_dir / each for each in PUBLISHED.folders] if data_dir else []
    path = next((p / KERAS for p in places if (p / KERAS).is_file()), None)
    if path is None:
        return None
    return DataError(
        f"{path} is Keras' file, whose arrays are pickles that may run code and are "
        "not read; run `steppe download imdb --data-dir DIR` for the reviews "
        f"themselves, or {PUBLISHED.fix(f'DIR/{PUBLISHED.put_into}')}."
    )


def _reviews(folder: Path, again: str) -> list[list[str]]:
    """Words of the reviews of a class, by the names of their files."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".txt")
    except OSError as error:
        raise DataError(
            f"{folder} cannot be read ({error.strerror}); {again}."
        ) from error
    if not 0 < len(paths) <= MOST_FILES:
        raise DataError(
            f"{folder} must hold 1 to {MOST_FILES:,} reviews that end in .txt, got "
            f"{len(paths):,}; {again}."
        )
    lines = (read_lines(path, again, most=MOST_BYTES) for path in paths)
    return [" ".join(each).lower().translate(MARKS).split() for each in lines]
