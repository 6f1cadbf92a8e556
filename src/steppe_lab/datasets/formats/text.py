"""Text in files: one line for each sentence or record, UTF-8, plain or gzip."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from steppe.errors import DataError
from steppe_lab.datasets.formats.published import limited_pieces

MOST_BYTES = 2**30  # of a text, unpacked; the English side of WMT14 has 645 MB


def read_lines(path: Path, again: str, *, most: int = MOST_BYTES) -> list[str]:
    """All lines of a text file, see `lines_of`.

    Raises:
        DataError: as `lines_of`.
    """
    return list(lines_of(path, again, most=most))


def lines_of(path: Path, again: str, *, most: int = MOST_BYTES) -> Iterator[str]:
    """Lines of a text file, without their ends, one by one.

    A line ends where there is a line feed, and nowhere else: sentences of parallel
    corpora hold other characters that Unicode takes for ends of lines, and a break
    there would shift all lines of one language against those of the other.

    Args:
        path: a file in UTF-8, plain or gzip; a byte order mark is dropped.
        again: half sentence that says where to get an intact file.
        most: bytes that it may have, unpacked.

    Raises:
        DataError: it cannot be read, is damaged, has more bytes, or is not UTF-8.
    """
    before = 0
    for raw in _whole_lines(limited_pieces(path, most, again)):
        if not before:
            raw = raw.removeprefix(codecs.BOM_UTF8)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            line = before + raw.count(b"\n", 0, error.start) + 1
            raise DataError(
                f"{path} must be text in UTF-8, and line {line:,} holds the byte "
                f"0x{raw[error.start]:02x}, which is none there; {again}."
            ) from error
        lines = text.split("\n")
        before += len(lines)
        yield from (each.removesuffix("\r") for each in lines)


def _whole_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Some lines at a time, without the line feed after the last of them."""
    begun: list[bytes] = []  # of a line, joined once: it may go over many pieces
    for piece in pieces:
        lines, feed, rest = piece.rpartition(b"\n")
        if feed:
            yield b"".join((*begun, lines))
            begun = []
        begun.append(rest)
    if any(begun):  # after the last line feed there is no line
        yield b"".join(begun)
