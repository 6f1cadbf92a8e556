"""Reasons that differ in their numbers alone, as one reason."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_NUMBER = re.compile(r"(?<![\w.])-?\d[\d.,]*(e[+-]?\d+)?", re.IGNORECASE)


def alike_reasons(reasons: Iterable[str]) -> dict[str, list[int]]:
    """Positions of reasons by their common text, with … in place of other numbers.

    Example:
        >>> alike_reasons(["a loss of 1 is above 0", "a loss of 2 is above 0", "no"])
        {'a loss of … is above 0': [0, 1], 'no': [2]}
    """
    texts = list(reasons)
    grouped: dict[str, list[int]] = {}
    for position, text in enumerate(texts):
        grouped.setdefault(_NUMBER.sub("…", text), []).append(position)
    return {_shared([texts[p] for p in each]): each for each in grouped.values()}


def _shared(alike: Sequence[str]) -> str:
    """The text of reasons that differ in numbers at most."""
    numbers = [[match[0] for match in _NUMBER.finditer(text)] for text in alike]
    common = iter(
        values[0] if len(set(values)) == 1 else "…"
        for values in zip(*numbers, strict=True)
    )
    return _NUMBER.sub(lambda _: next(common), alike[0])
