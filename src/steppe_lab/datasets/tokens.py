"""Sequences of tokens, each to be predicted from those before it.

Shape letters: N sequences, T positions of the longest one, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from steppe.errors import DataError
from steppe.losses import IGNORED
from steppe.torch_internals import tree_map
from steppe_lab.datasets.samples import AbstractSamples, Batch


@dataclass(frozen=True, eq=False)
class TokenSamples(AbstractSamples):
    """Sequences, padded on the right; a batch is as long as its longest sequence.

    A model that looks at earlier positions alone needs no mask: padding comes after
    all tokens, and its targets do not count.

    Args:
        inputs: tokens, shape (N, T); padding is any token.
        targets: the token after each, shape (N, T); -100 at padding.
        contiguous: the sequences are neighbouring pieces of one text in its order.
    """

    inputs: Tensor
    targets: Tensor
    contiguous: bool = False

    @classmethod
    def from_sequences(
        cls, sequences: Sequence[Tensor] | Tensor, length: int | None = None
    ) -> TokenSamples:
        """Samples of whole sequences, of 2 tokens or more each.

        Args:
            sequences: whole numbers from 0, one dimension each, or rows of a tensor.
            length: tokens that a longer sequence is cut to and T + 1 is; None for the
                longest. Training and test samples must have the same.

        Raises:
            DataError: a sequence of another form, or too short to have a next token.
        """
        rows = [torch.as_tensor(sequence) for sequence in sequences]
        for place, row in enumerate(rows):
            if row.dim() != 1 or row.is_floating_point() or len(row) < 2:
                raise DataError(
                    "a sequence must be 2 or more whole numbers in one dimension, got "
                    f"{row.dtype} of shape {tuple(row.shape)} at position {place}; "
                    "leave it out, or encode the text first."
                )
        cut = [row[:length].to(torch.int64) for row in rows]
        padded = pad_sequence(cut, batch_first=True, padding_value=IGNORED)
        if length is not None:
            padded = F.pad(padded, (0, length - padded.shape[1]), value=IGNORED)
        inputs = padded[:, :-1].clone()
        return cls(inputs.masked_fill_(inputs == IGNORED, 0), padded[:, 1:])

    @classmethod
    def from_stream(cls, tokens: Tensor, steps: int) -> TokenSamples:
        """Samples that are neighbouring pieces of one text, which together are all.

        Args:
            tokens: whole numbers from 0, one dimension.
            steps: tokens of a piece; the last one is padded.

        Raises:
            DataError: a text without a next token.
        """
        if len(tokens) < 2:
            raise DataError(
                f"a text must have 2 or more tokens, got {len(tokens)}; use the "
                "unchanged official file."
            )
        beyond = -(len(tokens) - 1) % steps
        inputs, targets = (
            F.pad(part, (0, beyond), value=fill).view(-1, steps)
            for part, fill in ((tokens[:-1], 0), (tokens[1:], IGNORED))
        )
        return cls(inputs, targets, contiguous=True)

    def count(self) -> int:
        """Number of sequences."""
        return len(self.inputs)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Positions of the longest sequence, (T,)."""
        return tuple(self.inputs.shape[1:])

    @property
    def lengths(self) -> Tensor:
        """Positions of each sequence up to its last target that counts, (N,)."""
        places = torch.arange(1, self.targets.shape[1] + 1)
        return ((self.targets != IGNORED) * places).amax(1)

    def chosen(self, positions: Tensor) -> Self:
        """The sequences at some positions, in that order."""
        neighbours = self.contiguous and bool((positions.diff() == 1).all())
        return replace(
            self,
            inputs=self.inputs[positions],
            targets=self.targets[positions],
            contiguous=neighbours,
        )

    def with_targets(self, targets: Tensor) -> Self:
        """The same inputs with other targets."""
        return replace(self, targets=targets)

    def targets_at(self, positions: Tensor | slice) -> Tensor:
        """Next tokens at some positions."""
        return self.targets[positions]

    def batch(self, positions: Tensor | slice) -> Batch:
        """Tokens (B, T) and the next ones (B, T), T that of the longest of them."""
        inputs, targets = self.inputs[positions], self.targets[positions]
        used = (targets != IGNORED).any(0).nonzero()
        length = int(used[-1]) + 1 if len(used) else 1
        return inputs[:, :length], targets[:, :length]

    def micro_batch(self, batch: Batch, rows: Tensor) -> Batch:
        """Views of neighbouring rows, of a state that goes with the tokens too."""
        inputs, targets = batch
        place = slice(int(rows[0]), int(rows[-1]) + 1)
        return tree_map(lambda leaf: leaf[place], inputs), targets[place]

    def arrays(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Inputs and targets, and whether they are one text."""
        if self.contiguous:
            yield "one text ", iter(())
        for each in (self.inputs, self.targets):
            yield f"{tuple(each.shape)} {each.dtype} ", iter([each])
