"""Data sets of sentences to translate, from parallel text and its vocabulary."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from steppe.errors import DataError
from steppe_lab.datasets.abstract import Dataset, note_on_count
from steppe_lab.datasets.formats.parallel import PARTS, ParallelText, Part
from steppe_lab.datasets.pairs import PairSamples, Sentences, Texts
from steppe_lab.datasets.vocabulary import read_vocabulary

Direction = Literal["de-en", "en-de"]
LONGER, SHORTER = 1, 100  # pieces of both sentences of a pair that is trained on
TITLES: dict[Part, str] = {
    "train": "training",
    "validation": "validation",
    "test": "test",
}


def translation(
    text: ParallelText,
    data_dir: Path | None,
    *,
    direction: Direction,
    vocabulary: int | None,
) -> Dataset:
    """Sentences to translate, encoded by the vocabulary that `steppe prepare` wrote.

    Pairs are trained on where both sentences have more than 1 and fewer than 100
    pieces, as in LPF-SGD (Bisla, Wang and Choromanska, 2022); all pairs of the other
    parts are kept.

    Args:
        text: files of the data set.
        data_dir: folder with the files of data sets.
        direction: from which language to which.
        vocabulary: number of pieces; None for the one vocabulary beside the text.

    Raises:
        DataError: files or a vocabulary that are missing, damaged or of other text.
        SettingError: several vocabularies, and no number that says which.
    """
    folder, form = text.find(data_dir)
    lines = {part: text.read(folder, form, part) for part in PARTS}
    known = read_vocabulary(text, folder, vocabulary, lines["train"])
    size = len(known.pieces)
    ends = direction.split("-")
    encoded: dict[Part, list[Sentences]] = {
        part: [Sentences.of(known.encode(lines[part][end]), size) for end in ends]
        for part in PARTS
    }
    chosen = {part: torch.arange(len(encoded[part][0])) for part in PARTS}
    chosen["train"] = _neither_short_nor_long(text, encoded["train"])
    length = 1 + max(  # with the piece at the end, or at the beginning
        int(each.lengths(chosen[part]).max())
        for part in PARTS
        for each in encoded[part]
    )
    samples = {
        part: PairSamples(
            source=encoded[part][0],
            target=encoded[part][1],
            source_texts=Texts.of(lines[part][ends[0]]),
            target_texts=Texts.of(lines[part][ends[1]]),
            pairs=chosen[part],
            length=length,
            vocabulary=known.pieces,
        )
        for part in PARTS
    }
    return Dataset(
        name=text.name,
        train=samples["train"],
        test=samples["test"],
        validation=samples["validation"],
        classes=known.pieces,
        task="translation",
        notes=_notes(text, encoded, chosen),
    )


def _neither_short_nor_long(text: ParallelText, ends: list[Sentences]) -> Tensor:
    """Pairs that are trained on, ascending."""
    every = torch.arange(len(ends[0]))
    lengths = torch.stack([each.lengths(every) for each in ends])
    inside = (lengths > LONGER) & (lengths < SHORTER)
    pairs = inside.all(0).nonzero().flatten()
    if not len(pairs):
        raise DataError(
            f"{text.published.title} must have pairs of more than {LONGER} and fewer "
            f"than {SHORTER} pieces to train on, got none; give "
            "sentences of several words."
        )
    return pairs


def _notes(
    text: ParallelText,
    encoded: dict[Part, list[Sentences]],
    chosen: dict[Part, Tensor],
) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    for part, official in text.official.items():
        count = len(encoded[part][0])
        notes += note_on_count(TITLES[part], count, official, "pairs")
    pairs, left = len(encoded["train"][0]), len(chosen["train"])
    if left < pairs:
        notes += (
            f"{pairs - left:,} of {pairs:,} training pairs are left out, of sentences "
            f"of {LONGER} piece or less, or of {SHORTER} or more",
        )
    return notes
