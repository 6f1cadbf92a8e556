"""Words of a text as whole numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from steppe.errors import DataError

UNKNOWN, END = "<unk>", "<eos>"
_WORD = re.compile(r"\w+|[^\w\s]")


def words_of(sentence: str) -> list[str]:
    """Words and single marks of a sentence, in lower case.

    Example:
        >>> words_of("Zwei Männer, 1 Hund.")
        ['zwei', 'männer', ',', '1', 'hund', '.']
    """
    return _WORD.findall(sentence.lower())


@dataclass(frozen=True)
class WordVocabulary:
    """Words by their number, which is their place.

    Args:
        words: each once.
    """

    words: tuple[str, ...]

    @classmethod
    def of(
        cls,
        sentences: Iterable[Sequence[str]],
        *,
        first: Sequence[str] = (),
        least_count: int = 1,
        most: int | None = None,
    ) -> WordVocabulary:
        """Words of a text by falling count, and by the alphabet where counts are equal.

        Args:
            sentences: of the training text.
            first: tokens that come before all others, whatever their count.
            least_count: occurrences below which a word is left out.
            most: words, with those of `first`; None for no limit.
        """
        counts = Counter(word for sentence in sentences for word in sentence)
        chosen = {word for word, count in counts.items() if count >= least_count}
        order = sorted(chosen - set(first), key=lambda word: (-counts[word], word))
        return cls((*first, *order)[:most])

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    def encode(self, words: Sequence[str], where: str) -> Tensor:
        """Numbers of words, int64; that of `<unk>` for those that are not in it.

        Args:
            words: of a text.
            where: what holds them, for the sentence.

        Raises:
            DataError: an unknown word, and a vocabulary without `<unk>`.
        """
        numbers, unknown = self._numbers, self._numbers.get(UNKNOWN)
        encoded = [numbers.get(word, unknown) for word in words]
        if unknown is None and None in encoded:
            word = words[encoded.index(None)]
            raise DataError(
                f"{where} must have words of the training text alone where that has no "
                f"{UNKNOWN}, got '{word[:80]}'; replace rare words of the training "
                f"text by {UNKNOWN}, which then stands for this one too."
            )
        return torch.from_numpy(np.array(encoded, np.int64))
