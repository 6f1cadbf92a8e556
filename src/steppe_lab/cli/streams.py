"""Streams of the command: stdout is for results alone, whatever else writes there."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import io
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

LEGIBLE = "steppe.legible"  # name of the error handler below
PLAIN = {"±": "+-", "×": "x", "–": "-", "−": "-", "⁻": "-", "…": "..."}
NARROWEST = 60  # columns below which tables lose digits


def open_streams() -> None:
    """Give the standard streams that were closed at the start a place to write to.

    Else the next file that is opened would get their number, and be written over.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        mode = "w" if number else "r"
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, closefd=False))


@contextlib.contextmanager
def results_apart(*, for_good: bool) -> Iterator[TextIO]:
    """Give the stream of results; all else that goes to stdout goes to stderr.

    That is what code of the user prints, what C libraries print, and child processes.

    Args:
        for_good: what is printed after the block, such as at exit, is no result either.
    """
    results = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        if _number(results) != 1:  # caught by whoever called in this process
            yield results
            return
        # By number: child processes and C libraries know nothing of `sys.stdout`.
        results.flush()
        kept = os.dup(1)
        os.dup2(2, 1)
        encoding = results.encoding
        own = os.fdopen(os.dup(kept), "w", encoding=encoding, errors=LEGIBLE)
        try:
            yield own
            own.flush()
        finally:
            _discard(own)
            # Of C, which keeps what it printed until its buffer is full.
            with contextlib.suppress(OSError, AttributeError, TypeError):
                ctypes.CDLL(None).fflush(None)
            if not for_good:
                os.dup2(kept, 1)
            os.close(kept)


def console(results: TextIO) -> Console:
    """Where tables go; on a narrow terminal lines wrap, and numbers stay whole."""
    from rich.console import Console

    made = Console(file=results, highlight=False)
    return Console(file=results, highlight=False, width=max(NARROWEST, made.width))


def print_notes(page: Console, notes: Iterable[str]) -> None:
    """Print sentences without full stops as notes, a line for each."""
    for note in notes:
        page.print(f"Note: {note}.", markup=False)


def _number(stream: TextIO) -> int | None:
    try:
        return stream.fileno()
    except (io.UnsupportedOperation, OSError, ValueError):
        return None


def _discard(stream: TextIO) -> None:
    """Close a stream; text that cannot be written is not tried again at exit."""
    try:
        stream.close()
    except OSError:
        with contextlib.suppress(OSError):
            stream.close()


def _legible(error: UnicodeError) -> tuple[str | bytes, int]:
    """One character that a terminal lacks; bytes of file names stay as they are."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter, after = error.object[error.start], error.start + 1
    if "\udc80" <= letter <= "\udcff":
        return bytes([ord(letter) - 0xDC00]), after
    return PLAIN.get(letter, "?"), after


codecs.register_error(LEGIBLE, _legible)
