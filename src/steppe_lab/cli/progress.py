"""How far long work is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

Tell = Callable[[float, int, int, str, bool], None]


@contextmanager
def progress() -> Iterator[Tell]:
    """Give a function `tell(done, finished, total, text, ended)`.

    `done` counts begun runs in part, `finished` whole ones only; `ended` says whether
    the text is about the end of a run. Everything goes to stderr.
    """
    if not sys.stderr.isatty():
        yield _line
        return
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),  # names may hold brackets
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        # Without a total the bar moves to and fro until the first event comes.
        task = bar.add_task("starting", total=None)

        def tell(done: float, _: int, total: int, text: str, ended: bool) -> None:
            del ended
            bar.update(task, completed=done, total=total, description=text)

        yield tell


def counted(tell: Tell, text: str) -> Callable[[int, int], None]:
    """A function of the work done and of all; a log has a line for every tenth."""
    shown = 0

    def report(done: int, total: int) -> None:
        nonlocal shown
        tenths = 10 * done // total
        tell(done, done, total, text, tenths > shown)
        shown = max(shown, tenths)

    return report


def in_tenths(tell: Tell, total: int) -> Callable[[float, str], None]:
    """A function of the progress and a text; a log has a line for every tenth."""
    shown = 0

    def report(done: float, text: str) -> None:
        nonlocal shown
        tenths = int(10 * done / total)
        tell(done, int(done), total, text, tenths > shown)
        shown = max(shown, tenths)

    return report


def _line(_: float, finished: int, total: int, text: str, ended: bool) -> None:
    # Work does not stop because nobody reads how far it is.
    with suppress(OSError):
        if ended:
            sys.stderr.write(f"[{finished}/{total}] {text}\n")
            sys.stderr.flush()
