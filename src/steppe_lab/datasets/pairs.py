"""Sentences and their translations, as tokens of one vocabulary.

Tokens of all sentences lie in flat tensors; a batch is padded to its longest sentences.

Shape letters: N pairs, B batch, S positions of the longest source, T those of the
longest target.
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from steppe.errors import DataError
from steppe.losses import IGNORED
from steppe_lab.datasets.formats.compact import Texts, tensor_on
from steppe_lab.datasets.samples import CHUNK, AbstractSamples, Batch

UNK, PAD, BOS, EOS = 0, 1, 2, 3  # tokens of every vocabulary


def narrow_type(vocabulary: int) -> torch.dtype:
    """The type that tokens of a vocabulary are stored in."""
    return torch.int16 if vocabulary <= 2**15 else torch.int32


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sequences of tokens of any lengths, behind each other in one tensor."""

    tokens: Tensor  # of all sentences; int16 where it holds the vocabulary, else int32
    starts: Tensor  # of each sentence, and the end of the last one; int64

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]], vocabulary: int) -> Sentences:
        """Sentences of lists of tokens.

        Args:
            rows: tokens of each sentence, without those at its ends.
            vocabulary: number of tokens that there are.

        Raises:
            DataError: a token that the vocabulary does not have.
        """
        kind = narrow_type(vocabulary)
        # In memory that grows: lists would take ten times as much.
        flat, ends = bytearray(), array("q", [0])
        every = iter(rows)
        while some := list(itertools.islice(every, CHUNK)):
            tokens = np.fromiter(itertools.chain.from_iterable(some), np.int64)
            wrong = tokens[(tokens < 0) | (tokens >= vocabulary)]
            if len(wrong):
                raise DataError(
                    f"tokens must be 0 to {vocabulary - 1}, got {wrong[0]}; encode the "
                    "text with the vocabulary that belongs to it."
                )
            flat += torch.from_numpy(tokens).to(kind).numpy().tobytes()
            for row in some:
                ends.append(ends[-1] + len(row))
        return cls(tensor_on(flat, kind), torch.frombuffer(ends, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def lengths(self, sentences: Tensor) -> Tensor:
        """Tokens of some sentences, int64."""
        return self.starts[sentences + 1] - self.starts[sentences]

    def padded(self, sentences: Tensor, fill: int) -> Tensor:
        """Some sentences, padded on the right.

        Args:
            sentences: their numbers, (B,).
            fill: at padding.

        Returns:
            Tokens (B, longest), int64.
        """
        starts, lengths = self.starts[sentences], self.lengths(sentences)
        longest = int(lengths.max()) if len(lengths) else 0
        places = torch.arange(longest)
        beyond = places >= lengths[:, None]
        places = (starts[:, None] + places).masked_fill_(beyond, 0)
        if not len(self.tokens):
            return places.fill_(fill)
        return self.tokens[places].long().masked_fill_(beyond, fill)

    def chosen(self, sentences: Tensor) -> Sentences:
        """A copy of some sentences."""
        tokens = torch.cat([self.tokens[:0], *self.pieces(sentences)])
        return Sentences(tokens, self.starts_of(sentences))

    def starts_of(self, sentences: Tensor) -> Tensor:
        """Starts of some sentences behind each other, and the end of the last one."""
        return F.pad(self.lengths(sentences), (1, 0)).cumsum(0)

    def pieces(self, sentences: Tensor) -> Iterator[Tensor]:
        """Tokens of some sentences behind each other, piece by piece."""
        for piece in torch.split(sentences, CHUNK):
            lengths = self.lengths(piece)
            apart = self.starts[piece] - (lengths.cumsum(0) - lengths)
            places = torch.arange(int(lengths.sum()))
            yield self.tokens[places + apart.repeat_interleave(lengths)]


@dataclass(frozen=True, kw_only=True, eq=False)
class PairSamples(AbstractSamples):
    """Sentences with their translations.

    A model takes (source (B, S), target so far (B, T)) and gives the next token at
    each of the T positions. A source ends with EOS; what is given of a target begins
    with BOS, and its last token to predict is EOS. Padding is PAD in inputs and -100
    in targets.

    All pairs share their tensors and texts; `pairs` names those that are samples, so
    that choosing some copies no sentence.
    """

    source: Sentences
    target: Sentences
    source_texts: Texts
    target_texts: Texts
    pairs: Tensor  # (N,) pairs of them, int64
    length: int  # most positions of a sentence of the data set, S and T among them
    vocabulary: tuple[str, ...]  # its pieces, U+2581 where a word begins

    def count(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Most positions that a sentence of the data set has."""
        return (self.length,)

    @property
    def targets(self) -> Tensor:
        """Tokens to predict, (N, T) of the type they are stored in; -100 at padding.

        All of them are padded, which is a copy; batches ask `targets_at`.
        """
        narrow = self.target.tokens.dtype
        longest = 1 + int(self.target.lengths(self.pairs).max())
        rows = torch.full((self.count(), longest), IGNORED, dtype=narrow)
        for start in range(0, self.count(), CHUNK):
            piece = self.targets_at(slice(start, start + CHUNK))
            rows[start : start + CHUNK, : piece.shape[1]] = piece
        return rows

    def token_range(self) -> tuple[int, int]:
        """The smallest and the largest token of all targets."""
        tokens = self.target.tokens
        ends = (EOS, *((int(t) for t in tokens.aminmax()) if len(tokens) else ()))
        return min(ends), max(ends)

    def counts_at(self, positions: Tensor | slice) -> Tensor:
        """Tokens to predict at some positions, (B,)."""
        return 1 + self.target.lengths(self.pairs[positions])

    @property
    def sources(self) -> tuple[str, ...]:
        """Raw sentences to translate."""
        return self.source_texts.at(self.pairs)

    @property
    def references(self) -> tuple[str, ...]:
        """Raw translations."""
        return self.target_texts.at(self.pairs)

    @property
    def lengths(self) -> Tensor:
        """Tokens of each source and target together, (N,)."""
        return self.source.lengths(self.pairs) + self.target.lengths(self.pairs)

    def chosen(self, positions: Tensor) -> Self:
        """The pairs at some positions, in that order."""
        return replace(self, pairs=self.pairs[positions])

    def with_targets(self, targets: Tensor) -> Self:
        """The same pairs with other tokens to predict; raw translations stay."""
        narrow = self.target.tokens.dtype
        rows = [row[row != IGNORED][:-1].to(narrow) for row in targets]
        ends = torch.tensor([0, *map(len, rows)]).cumsum(0)
        return replace(
            self,
            source=self.source.chosen(self.pairs),
            target=Sentences(torch.cat(rows), ends),
            source_texts=Texts.of(self.sources),
            target_texts=Texts.of(self.references),
            pairs=torch.arange(len(self)),
        )

    def batch(self, positions: Tensor | slice) -> Batch:
        """Source (B, S) and target so far (B, T), and the tokens to predict (B, T)."""
        pairs = self.pairs[positions]
        source = self.source.padded(pairs, PAD)
        ended = _ended(source, self.source.lengths(pairs), PAD)
        target = self.target.padded(pairs, PAD)
        begun = F.pad(target, (1, 0), value=BOS)
        return (ended, begun), self.targets_at(positions)

    def targets_at(self, positions: Tensor | slice) -> Tensor:
        """Tokens to predict at some positions, int64 (B, T); -100 at padding."""
        pairs = self.pairs[positions]
        padded = self.target.padded(pairs, IGNORED)
        return _ended(padded, self.target.lengths(pairs), IGNORED)

    def micro_batch(self, batch: Batch, rows: Tensor) -> Batch:
        """Views of neighbouring rows."""
        (source, begun), targets = batch
        place = slice(int(rows[0]), int(rows[-1]) + 1)
        return (source[place], begun[place]), targets[place]

    def arrays(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Tokens and texts of all pairs, sentence by sentence."""
        yield f"{len(self)} pairs of {self.length} positions ", iter(())
        for sentences in (self.source, self.target):
            starts, tokens = (
                sentences.starts_of(self.pairs),
                sentences.pieces(self.pairs),
            )
            yield f"{sentences.tokens.dtype} ", itertools.chain([starts], tokens)
        for texts in (self.source_texts, self.target_texts):
            yield "texts ", texts.joined(self.pairs)


def _ended(padded: Tensor, lengths: Tensor, fill: int) -> Tensor:
    """Padded sentences (B, L) with EOS after the last token of each, (B, L + 1)."""
    ended = F.pad(padded, (0, 1), value=fill)
    return ended.scatter_(1, lengths[:, None], EOS)
