"""Names in figures, cut to the room that they have."""

from __future__ import annotations

from typing import Literal

BESIDE = 24  # letters of a name beside axes


def cut(
    name: object, letters: int, at: Literal["start", "middle", "end"] = "middle"
) -> str:
    """A name of at most so many letters, with … in the place of the others.

    Args:
        name: as it is.
        letters: at most, from 3 on.
        at: part of a longer name that is left out, which tells the least.

    Example:
        >>> cut("lpf_sgd:gamma=0.002", 12), cut("layers.0.weight", 8, "start")
        ('lpf_s…=0.002', '….weight')
    """
    text = str(name)
    if len(text) <= letters:
        return text
    left = {"start": 0, "middle": (letters - 1) // 2, "end": letters - 1}[at]
    right = letters - 1 - left
    return f"{text[:left]}…{text[len(text) - right :]}"
