"""Multi30k as texts of one language: a language model of it, or which language it is.

Small stand-ins for the Penn Treebank and for film reviews, of files that anybody may
have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from steppe_lab.datasets.abstract import Dataset
from steppe_lab.datasets.formats.parallel import PARTS, Part
from steppe_lab.datasets.streams import language_model_data
from steppe_lab.datasets.texts import SPECIAL, TextSamples
from steppe_lab.datasets.words import END, UNKNOWN, WordVocabulary, words_of

LANGUAGES = {"en": "English", "de": "German"}  # classes by the ending of a file
Texts = Mapping[Part, Mapping[str, Iterable[str]]]  # sentences of each part by language


def language_model(
    texts: Texts, *, steps: int, least_count: int, notes: Sequence[str] = ()
) -> Dataset:
    """English sentences behind each other, in lower-case words and marks.

    Args:
        texts: sentences of all parts.
        steps: tokens of a piece of text, over which gradients go back.
        least_count: training occurrences below which a word is unknown.
        notes: facts that a reader of results must know.
    """
    parts = {part: [words_of(line) for line in texts[part]["en"]] for part in PARTS}
    vocabulary = WordVocabulary.of(
        parts["train"], first=(UNKNOWN, END), least_count=least_count
    )
    return language_model_data(
        "multi30k",
        parts["train"],
        parts["test"],
        parts["validation"],
        steps=steps,
        vocabulary=vocabulary,
        notes=notes,
    )


def languages(
    texts: Texts, *, least_count: int, length: int, notes: Sequence[str] = ()
) -> Dataset:
    """Sentences of two languages in turn, with their language as the class.

    Args:
        texts: sentences of all parts.
        least_count: training occurrences below which a word is unknown.
        length: tokens of a sentence; longer ones lose their beginning.
        notes: facts that a reader of results must know.
    """
    parts = {}
    for part in PARTS:
        # In turn, so that the first so many are of both classes.
        pairs = zip(*(texts[part][one] for one in LANGUAGES), strict=True)
        parts[part] = [words_of(line) for pair in pairs for line in pair]
    vocabulary = WordVocabulary.of(
        parts["train"], first=SPECIAL, least_count=least_count
    )

    def samples(part: Part) -> TextSamples:
        rows = parts[part]
        targets = torch.arange(len(rows)) % len(LANGUAGES)
        return TextSamples.of(rows, targets, vocabulary, length)

    return Dataset(
        name="multi30k",
        train=samples("train"),
        test=samples("test"),
        validation=samples("validation"),
        classes=tuple(LANGUAGES.values()),
        notes=tuple(notes),
    )
