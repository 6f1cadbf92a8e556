"""Data sets of sentences to translate, from parallel text and its vocabulary."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from steppe.errors import DataError
from steppe_lab.datasets.abstract import Dataset, note_on_count
from steppe_lab.datasets.formats.parallel import PARTS, Files, ParallelText, Part
from steppe_lab.datasets.pairs import PairSamples
from steppe_lab.datasets.token_files import (
    Encoded,
    EncodedParts,
    encode,
    read_tokens,
    stale,
)
from steppe_lab.datasets.vocabulary import (
    Vocabulary,
    command_for,
    name_of,
    only_size,
    read_vocabulary,
    stored_model,
)

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
    size = only_size(text, folder) if vocabulary is None else vocabulary
    pieces, parts = _encoded(text, folder, form, size)
    ends = direction.split("-")
    encoded = {part: [parts[part][end] for end in ends] for part in PARTS}
    chosen = {part: torch.arange(len(encoded[part][0].texts)) for part in PARTS}
    chosen["train"] = _neither_short_nor_long(text, encoded["train"])
    length = 1 + max(  # with the piece at the end, or at the beginning
        int(each.sentences.lengths(chosen[part]).max())
        for part in PARTS
        for each in encoded[part]
    )
    samples = {
        part: PairSamples(
            source=source.sentences,
            target=target.sentences,
            source_texts=source.texts,
            target_texts=target.texts,
            pairs=chosen[part],
            length=length,
            vocabulary=pieces,
        )
        for part, (source, target) in encoded.items()
    }
    return Dataset(
        name=text.name,
        train=samples["train"],
        test=samples["test"],
        validation=samples["validation"],
        classes=pieces,
        task="translation",
        notes=_notes(text, encoded, chosen),
    )


def _encoded(
    text: ParallelText, folder: Path, form: Files, size: int
) -> tuple[tuple[str, ...], EncodedParts]:
    """Pieces and tokens: of files that `steppe prepare` wrote, or encoded anew."""
    name, model = name_of(size), stored_model(folder, size)
    reason: str | None = "its vocabulary is not there"
    if model is not None:
        reason = stale(text, folder, form, folder, name, model)
        if reason is None:
            known = Vocabulary(model)
            return known.pieces, read_tokens(text, folder, name, known)
    lines = {part: text.read(folder, form, part) for part in PARTS}
    known = read_vocabulary(text, folder, size, lines["train"])
    if not text.small:
        warnings.warn(
            f"{text.published.title} is encoded each time that it is read, because "
            f"{reason}; {command_for(text, size)}.",
            stacklevel=2,
        )
    return known.pieces, {
        part: {language: encode(texts, known) for language, texts in own.items()}
        for part, own in lines.items()
    }


def _neither_short_nor_long(text: ParallelText, ends: list[Encoded]) -> Tensor:
    """Pairs that are trained on, ascending."""
    lengths = torch.stack([each.sentences.starts.diff() for each in ends])
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
    encoded: dict[Part, list[Encoded]],
    chosen: dict[Part, Tensor],
) -> tuple[str, ...]:
    notes: tuple[str, ...] = ()
    for part, official in text.official.items():
        count = len(encoded[part][0].texts)
        notes += note_on_count(TITLES[part], count, official, "pairs")
    pairs, left = len(encoded["train"][0].texts), len(chosen["train"])
    if left < pairs:
        notes += (
            f"{pairs - left:,} of {pairs:,} training pairs are left out, of sentences "
            f"of {LONGER} piece or less, or of {SHORTER} or more",
        )
    return notes
