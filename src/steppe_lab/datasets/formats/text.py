"""Text in files: one line for each sentence or record, UTF-8, plain or gzip."""

from __future__ import annotations

from pathlib import Path

from steppe.errors import DataError
from steppe_lab.datasets.formats.published import read_limited

MOST_BYTES = 2**30  # of a text, unpacked; the English side of WMT14 has 645 MB


def read_lines(path: Path, again: str, *, most: int = MOST_BYTES) -> list[str]:
    """Lines of a text file, without their ends.

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
    raw = read_limited(path, most, again)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} must be text in UTF-8, and line {line:,} holds the byte "
            f"0x{raw[error.start]:02x}, which is none there; {again}."
        ) from error
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()  # after the last line feed there is no line
    return [line.removesuffix("\r") for line in lines]
