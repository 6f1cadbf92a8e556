"""Texts with a class each, as words of a vocabulary, all of one length.

Shape letters: N texts, T positions, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from steppe_lab.datasets.samples import AbstractSamples, Batch
from steppe_lab.datasets.words import UNKNOWN, WordVocabulary

PADDING, BEGIN = "<pad>", "<start>"
SPECIAL = (PADDING, BEGIN, UNKNOWN)  # tokens 0, 1 and 2


@dataclass(frozen=True, eq=False)
class TextSamples(AbstractSamples):
    """Texts that all have T tokens, so that outputs do not depend on the batch.

    Args:
        tokens: shape (N, T), int32.
        targets: a class for each, (N,).
        vocabulary: number of tokens that there are.
    """

    tokens: Tensor
    targets: Tensor
    vocabulary: int

    @classmethod
    def of(
        cls,
        texts: Sequence[Sequence[str]],
        targets: Tensor,
        vocabulary: WordVocabulary,
        length: int,
    ) -> TextSamples:
        """Samples of texts as Keras' `pad_sequences` makes them.

        A token for the beginning comes first. Of a longer text the end is taken, a
        shorter one is padded before its beginning.

        Args:
            texts: words of each.
            targets: a class for each, (N,).
            vocabulary: whose first tokens are `SPECIAL`.
            length: tokens of a sample, T.
        """
        tokens = torch.zeros(len(texts), length, dtype=torch.int32)
        for row, words in zip(tokens, texts, strict=True):
            # No more is encoded than is taken: reviews have up to 2,500 words.
            end = (BEGIN, *words)[-length:]
            row[length - len(end) :] = vocabulary.encode(end, "a text")
        return cls(tokens, targets, len(vocabulary))

    def count(self) -> int:
        """Number of texts."""
        return len(self.tokens)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Tokens of a text and of the vocabulary, (T, vocabulary)."""
        return (self.tokens.shape[1], self.vocabulary)

    def chosen(self, positions: Tensor) -> Self:
        """The texts at some positions, in that order."""
        return replace(
            self, tokens=self.tokens[positions], targets=self.targets[positions]
        )

    def with_targets(self, targets: Tensor) -> Self:
        """The same texts with other classes."""
        return replace(self, targets=targets)

    def targets_at(self, positions: Tensor | slice) -> Tensor:
        """Classes at some positions."""
        return self.targets[positions]

    def batch(self, positions: Tensor | slice) -> Batch:
        """Tokens (B, T), int64, and classes (B,)."""
        return self.tokens[positions].long(), self.targets[positions]

    def micro_batch(self, batch: Batch, rows: Tensor) -> Batch:
        """Views of neighbouring rows."""
        inputs, targets = batch
        place = slice(int(rows[0]), int(rows[-1]) + 1)
        return inputs[place], targets[place]

    def arrays(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Tokens, of how many in all, and classes."""
        yield f"{tuple(self.tokens.shape)} of {self.vocabulary} ", iter([self.tokens])
        yield f"{tuple(self.targets.shape)} {self.targets.dtype} ", iter([self.targets])
