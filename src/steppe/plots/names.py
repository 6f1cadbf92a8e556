"""Names in figures, cut to the room that they have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Literal

BESIDE = 24  # letters of a name beside axes

Part = Literal["start", "middle", "end"]


def cut(names: Iterable[object], letters: int, at: Part = "middle") -> list[str]:
    """Names of one figure of at most so many letters, with … in place of the others.

    Names that are different look different: where a cut would make them the same, they
    have their first letters and the part in which they differ, and stay whole where
    this does not tell them apart.

    Args:
        names: as they are.
        letters: at most, from 4 on.
        at: part of a longer name that is left out, which tells the least.

    Example:
        >>> cut(["lpf_sgd:gamma=0.002", "sgd"], 12), cut(["layers.0.bias"], 8, "start")
        (['lpf_s…=0.002', 'sgd'], ['….0.bias'])
        >>> cut(["entropy_slope:variant=b", "entropy:variant=b"], 12)
        ['ent…opy_slo…', 'ent…opy:var…']
    """
    texts = [str(name) for name in names]
    short = {text: _cut(text, letters, at) for text in texts}
    for text, same in _alike(short).items():
        short[text] = _around_difference(text, same, letters)
    short |= {text: text for text in _alike(short)}
    return [short[text] for text in texts]


def _cut(text: str, letters: int, at: Part) -> str:
    if len(text) <= letters:
        return text
    left = {"start": 0, "middle": (letters - 1) // 2, "end": letters - 1}[at]
    right = letters - 1 - left
    return f"{text[:left]}…{text[len(text) - right :]}"


def _alike(short: Mapping[str, str]) -> dict[str, list[str]]:
    """Names that look like others, with these."""
    same = {
        text: [other for other in short if other != text and short[other] == label]
        for text, label in short.items()
    }
    return {text: others for text, others in same.items() if others}


def _around_difference(text: str, others: Iterable[str], letters: int) -> str:
    shared = max(_letters_shared(text, other) for other in others)
    few = letters // 4
    if shared <= 2 * few:
        return _cut(text, letters, "end")
    rest = _cut(text[shared - few :], letters - few - 1, "end")
    return f"{text[:few]}…{rest}"


def _letters_shared(one: str, other: str) -> int:
    """Letters that both begin with."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other)))
