"""Texts for language models: all sentences behind each other, cut into pieces."""

from __future__ import annotations

from collections.abc import Sequence

from steppe.registry.bounds import Range, Ranges
from steppe_lab.datasets.abstract import Dataset
from steppe_lab.datasets.tokens import TokenSamples
from steppe_lab.datasets.words import END, WordVocabulary

BOUNDS: Ranges = {"steps": Range(1, 10_000, whole=True)}
Sentences = Sequence[Sequence[str]]


def language_model_data(
    name: str,
    train: Sentences,
    test: Sentences,
    validation: Sentences,
    *,
    steps: int,
    vocabulary: WordVocabulary,
    notes: Sequence[str] = (),
) -> Dataset:
    """Three texts, each as neighbouring pieces of `steps` tokens, and the next tokens.

    Args:
        name: of the data set.
        train: sentences as words.
        test: the same, of the text to judge on.
        validation: the same, of the text to tune settings on.
        steps: tokens of a piece.
        vocabulary: with the token that ends each sentence.
        notes: facts that a reader of results must know.

    Raises:
        DataError: a text without two tokens, or with a word that the vocabulary lacks.
    """

    def pieces(part: str, text: Sentences) -> TokenSamples:
        tokens = vocabulary.encode(joined(text), f"the {part} text of {name}")
        return TokenSamples.from_stream(tokens, steps)

    return Dataset(
        name=name,
        train=pieces("training", train),
        test=pieces("test", test),
        validation=pieces("validation", validation),
        classes=vocabulary.words,
        task="next_token",
        notes=tuple(notes),
    )


def joined(sentences: Sentences) -> list[str]:
    """Words of all sentences, with the token of its end after each."""
    return [word for sentence in sentences for word in (*sentence, END)]
