"""Sources of methods with links to papers."""

from __future__ import annotations

import re
from dataclasses import dataclass

_CITED = re.compile(r"arXiv:\d{4}\.\d{4,5}|doi:10\.[^\s;,]+")
_HOSTS = {"arXiv": "https://arxiv.org/abs/", "doi": "https://doi.org/"}


@dataclass(frozen=True)
class Passage:
    """A piece of text, perhaps a link."""

    text: str
    address: str = ""


def cited(text: str) -> list[Passage]:
    """A source with its identifiers as links.

    Example:
        >>> cited("A, arXiv:2010.01412")[1].address
        'https://arxiv.org/abs/2010.01412'
    """
    pieces, end = [], 0
    for match in _CITED.finditer(text):
        host, _, identifier = match[0].partition(":")
        pieces.append(Passage(text[end : match.start()]))
        pieces.append(Passage(match[0], _HOSTS[host] + identifier))
        end = match.end()
    return [piece for piece in (*pieces, Passage(text[end:])) if piece.text]
