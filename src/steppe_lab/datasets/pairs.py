"""Sentences and their translations, as tokens of one vocabulary.

Tokens of all sentences lie in flat tensors; a batch is padded to its longest sentences.

Shape letters: N pairs, B batch, S positions of the longest source, T those of the
longest target.
"""

from __future__ import annotations

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
from steppe_lab.datasets.samples import CHUNK, AbstractSamples, Batch

UNK, PAD, BOS, EOS = 0, 1, 2, 3  # tokens of every vocabulary


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
        flat, ends = array("i"), array("q", [0])  # lists would take ten times as much
        for row in rows:
            flat.extend(row)
            ends.append(len(flat))
        tokens = np.array(flat, np.int32)
        wrong = tokens[(tokens < 0) | (tokens >= vocabulary)]
        if len(wrong):
            raise DataError(
                f"tokens must be 0 to {vocabulary - 1}, got {wrong[0]}; encode the "
                "text with the vocabulary that belongs to it."
            )
        narrow = np.int16 if vocabulary <= 2**15 else np.int32
        return cls(
            torch.from_numpy(tokens.astype(narrow)),
            torch.from_numpy(np.array(ends, np.int64)),
        )

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
        rows = [self.tokens[:0]]
        for piece in torch.split(sentences, CHUNK):
            padded = self.padded(piece, IGNORED)
            rows.append(padded[padded != IGNORED].to(self.tokens.dtype))
        lengths = F.pad(self.lengths(sentences), (1, 0))
        return Sentences(torch.cat(rows), lengths.cumsum(0))


@dataclass(frozen=True, eq=False)
class Texts:
    """Raw sentences, in UTF-8 behind each other: a fraction of the memory of texts."""

    letters: bytes
    starts: Tensor  # of each sentence, and the end of the last one; int64

    @classmethod
    def of(cls, sentences: Sequence[str]) -> Texts:
        """Those of a list."""
        encoded = [sentence.encode() for sentence in sentences]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        starts = torch.from_numpy(np.concatenate([[0], lengths.cumsum()]))
        return cls(b"".join(encoded), starts)

    def at(self, sentences: Tensor) -> tuple[str, ...]:
        """Some sentences by their numbers."""
        starts, ends = self.starts[sentences], self.starts[sentences + 1]
        return tuple(
            self.letters[start:end].decode()
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        )


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
            own = sentences.chosen(self.pairs)
            yield f"{own.tokens.dtype} ", iter([own.starts, own.tokens])
        for texts in (self.sources, self.references):
            letters = np.frombuffer("\n".join(texts).encode(), np.uint8)
            yield "texts ", iter([torch.from_numpy(letters.copy())])


def _ended(padded: Tensor, lengths: Tensor, fill: int) -> Tensor:
    """Padded sentences (B, L) with EOS after the last token of each, (B, L + 1)."""
    ended = F.pad(padded, (0, 1), value=fill)
    return ended.scatter_(1, lengths[:, None], EOS)
