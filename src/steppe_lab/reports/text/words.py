"""Words of sentences and headings."""

from __future__ import annotations


def capitalised(text: str) -> str:
    """A text with its first letter in upper case, the others as they are."""
    return text[:1].upper() + text[1:]
