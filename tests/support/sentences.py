"""Pairs of sentences for tests: digits, and the same digits backwards."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from steppe_lab.datasets import Dataset
from steppe_lab.datasets.formats.compact import Texts
from steppe_lab.datasets.pairs import EOS, PAD, PairSamples, Sentences

WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
PIECES = ("<unk>", "<pad>", "<s>", "</s>", *(f"\u2581{word}" for word in WORDS))
FIRST = 4  # token of "zero"
LONGEST = 9  # positions


def pairs(rows: Sequence[Sequence[int]]) -> PairSamples:
    """Rows of digits as sentences, which are translated by reading them backwards."""

    def sentences(of: Sequence[Sequence[int]]) -> tuple[Sentences, Texts]:
        tokens = [[FIRST + digit for digit in row] for row in of]
        texts = [" ".join(WORDS[digit] for digit in row) for row in of]
        return Sentences.of(tokens, len(PIECES)), Texts.of(texts)

    source, source_texts = sentences(rows)
    target, target_texts = sentences([row[::-1] for row in rows])
    return PairSamples(
        source=source,
        target=target,
        source_texts=source_texts,
        target_texts=target_texts,
        pairs=torch.arange(len(rows)),
        length=LONGEST,
        vocabulary=PIECES,
    )


def drawn(count: int, seed: int) -> list[list[int]]:
    """Rows of 2 to 8 digits."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, LONGEST, (count,), generator=g).tolist()
    return [torch.randint(10, (n,), generator=g).tolist() for n in lengths]


def load(*, data_dir: object = None) -> Dataset:
    """60 pairs to train on and 30 for test."""
    return Dataset(
        name="backwards",
        train=pairs(drawn(60, 1)),
        test=pairs(drawn(30, 2)),
        classes=PIECES,
        task="translation",
    )


class Backwards(nn.Module):
    """Reads sentences backwards, the surer the larger its only weight is.

    Args:
        sure: the weight.
        slips: so many of the digits are read as zero.
    """

    def __init__(self, sure: float, slips: int = 0) -> None:
        super().__init__()
        self.sure = nn.Parameter(torch.tensor(sure))
        self.most = FIRST + 10 - slips

    def encode(self, source: Tensor) -> Tensor:
        ended = (source == EOS).int().argmax(1)  # positions before EOS
        places = ended[:, None] - 1 - torch.arange(source.shape[1])
        backwards = source.gather(1, places.clamp(min=0))
        backwards = backwards.where(backwards < self.most, FIRST)
        return backwards.where(places >= 0, EOS)

    def decode(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        places = torch.arange(target.shape[1]).clamp(max=memory.shape[1] - 1)
        wanted = memory[:, places]
        return self.sure * nn.functional.one_hot(wanted, len(PIECES)).float()

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        source, target = inputs
        return self.decode(target, self.encode(source), source)


class Random(nn.Module):
    """Next tokens that follow from all tokens before and from the words of a source."""

    def __init__(self, vocabulary: int, seed: int, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.tokens = nn.Embedding(vocabulary, 8)
            self.cell = nn.GRU(8, 8, batch_first=True)
            self.drop = nn.Dropout(dropout)
            self.head = nn.Linear(8, vocabulary)
        with torch.no_grad():
            self.head.weight.mul_(4)
        self.double()

    def encode(self, source: Tensor) -> Tensor:
        real = (source != PAD)[:, :, None]
        return self.drop((self.tokens(source) * real).sum(1))

    def decode(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        states, _ = self.cell(self.tokens(target), memory[None].contiguous())
        return self.head(states)

    def forward(self, inputs: tuple[Tensor, Tensor]) -> Tensor:
        source, target = inputs
        return self.decode(target, self.encode(source), source)
