"""Test sets of the workshops on machine translation: segments in SGML, as published.

Source: NIST, the format of mteval; files such as newstest2014-deen-src.de.sgm. No
parser of SGML or XML reads them: nothing is expanded but the five characters that XML
names, and no other file is opened.
"""

from __future__ import annotations

import re
from pathlib import Path

from steppe.errors import DataError
from steppe_lab.datasets.formats.text import lines_of

ENDING = ".sgm"
MOST_BYTES = 2**26  # of a file, unpacked; those of newstest2014 have less than 1 MB
_BEGIN = re.compile(r"<seg\b[^<>]*>", re.IGNORECASE)
_END = re.compile(r"</seg>", re.IGNORECASE)
_MARK = re.compile(r"</?[a-z][^<>]*>", re.IGNORECASE)
_CHARACTERS = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_NAMED = re.compile(f"&({'|'.join(_CHARACTERS)});")


def is_sgm(path: Path) -> bool:
    """Whether the name of a file, plain or gzip, is that of such a test set."""
    return path.name.removesuffix(".gz").endswith(ENDING)


def segments_of(path: Path, again: str, *, most: int = MOST_BYTES) -> list[str]:
    """Segments of a test set in the order of the file, on one line each.

    Args:
        path: a file in UTF-8, plain or gzip.
        again: half sentence that says where to get an intact file.
        most: bytes that it may have, unpacked.

    Raises:
        DataError: it cannot be read, is damaged, has more bytes, is not UTF-8, declares
            entities, or holds no segments or segments that do not end.
    """
    text = "\n".join(lines_of(path, again, most=most))
    if "<!entity" in text.lower():
        raise DataError(
            f"{path} must declare no entities, which no official file does; {again}."
        )
    segments, place = [], 0
    while begin := _BEGIN.search(text, place):
        end = _END.search(text, begin.end())
        other = _BEGIN.search(text, begin.end())
        if end is None or (other is not None and other.start() < end.start()):
            line = text.count("\n", 0, begin.start()) + 1
            raise DataError(
                f"{path} must end each segment with </seg>, which that of line "
                f"{line:,} has not; {again}."
            )
        segments.append(_plain(text[begin.end() : end.start()]))
        place = end.end()
    if not segments:
        raise DataError(
            f"{path} must hold segments, <seg>...</seg>, got none; {again}."
        )
    return segments


def _plain(segment: str) -> str:
    """A segment without marks and with its characters, spaces one by one."""
    words = " ".join(_MARK.sub(" ", segment).split())
    return _NAMED.sub(lambda found: _CHARACTERS[found[1]], words)
