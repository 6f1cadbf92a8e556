"""Sentences in one piece of memory, or of a file that is mapped into it."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from steppe.errors import DataError

_ROWS = 4096  # sentences whose places are read at once


@dataclass(frozen=True, eq=False)
class Texts:
    """Raw sentences, in UTF-8 behind each other: a fraction of the memory of texts."""

    letters: Tensor  # bytes of all sentences, uint8
    starts: Tensor  # of each sentence, and the end of the last one; int64

    @classmethod
    def of(cls, sentences: Iterable[str]) -> Texts:
        """Those of a list, or of an iterator that is read once."""
        letters, ends = bytearray(), array("q", [0])
        for sentence in sentences:
            letters += sentence.encode()
            ends.append(len(letters))
        return cls(
            tensor_on(letters, torch.uint8), torch.frombuffer(ends, dtype=torch.int64)
        )

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __iter__(self) -> Iterator[str]:
        for piece in torch.split(torch.arange(len(self)), _ROWS):
            yield from self.at(piece)

    def at(self, sentences: Tensor) -> tuple[str, ...]:
        """Some sentences by their numbers.

        Raises:
            DataError: bytes that are not UTF-8.
        """
        try:
            return tuple(str(each, "utf-8") for each in self._views(sentences))
        except UnicodeDecodeError as error:
            wrong = error.object[error.start]
            raise DataError(
                f"sentences must be UTF-8, got the byte 0x{wrong:02x} in one of them; "
                "run `steppe prepare` again."
            ) from error

    def joined(self, sentences: Tensor) -> Iterator[Tensor]:
        """Bytes of some sentences with a line feed between them, piece by piece."""
        for number, piece in enumerate(torch.split(sentences, _ROWS)):
            between = b"\n" if number else b""
            lines = bytearray(between + b"\n".join(self._views(piece)))
            yield tensor_on(lines, torch.uint8)

    def _views(self, sentences: Tensor) -> list[memoryview]:
        letters = self.letters.numpy().data
        starts, ends = self.starts[sentences], self.starts[sentences + 1]
        return [
            letters[start:end]
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]


def tensor_on(memory: bytearray, dtype: torch.dtype) -> Tensor:
    """Numbers that lie in memory, which is not copied."""
    return (
        torch.frombuffer(memory, dtype=dtype) if memory else torch.empty(0, dtype=dtype)
    )
