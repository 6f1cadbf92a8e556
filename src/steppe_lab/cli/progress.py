"""Long work on the terminal: a bar with an estimate of the end, or plain lines."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from steppe_lab.progress import Progress, Report, span_in_words


@contextmanager
def progress() -> Iterator[Report]:
    """Show progress on stderr: as a bar on a terminal, else a line per ended run."""
    if not sys.stderr.isatty():
        yield _line
        return
    columns = (
        BarColumn(bar_width=24),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=None)

        def show(progress: Progress) -> None:
            text = progress.text + _end_of(progress)
            done, total = progress.done, progress.total
            bar.update(task, completed=done, total=total, description=text)

        yield show


def counted(report: Report, text: str) -> Callable[[int, int], None]:
    """A function of the work done and of all; a log has a line for every tenth."""
    thinned = in_tenths(report)
    return lambda done, total: thinned(Progress(done, total, text))


def named(report: Report) -> Callable[[int, int, str], None]:
    """The same with the name of the part that is next, as "12 of 31: trace"."""
    thinned = in_tenths(report)

    def tell(done: int, total: int, text: str) -> None:
        words = f"{done + 1} of {total}: {text}" if text else f"{total} of {total}"
        thinned(Progress(done, total, words))

    return tell


def at_the_last(report: Report, prepare: Callable[[], None]) -> Report:
    """Reports of runs; while the last one is in work, a core is free to prepare.

    Args:
        report: called with each progress.
        prepare: called once, unless all runs had been finished before.
    """
    begun = prepared = False

    def reporting(progress: Progress) -> None:
        nonlocal begun, prepared
        report(progress)
        begun |= progress.state == "running"
        if begun and not prepared and progress.finished == progress.total - 1:
            prepared = True
            prepare()

    return reporting


def in_tenths(report: Report) -> Report:
    """Reports of one piece of work: every tenth of it is a piece that has ended."""
    shown = 0

    def thinned(progress: Progress) -> None:
        nonlocal shown
        tenths = int(10 * progress.fraction)
        ended = replace(progress, state="finished", finished=int(progress.done))
        report(ended if tenths > shown else progress)
        shown = max(shown, tenths)

    return thinned


def left_in_words(seconds: float) -> str:
    """A time until an end, in as many digits as an estimate has.

    Example:
        >>> left_in_words(3), left_in_words(42), left_in_words(130)
        ('a few seconds left', 'about 40 s left', 'about 2 min left')
        >>> left_in_words(9000)
        'about 2.5 h left'
    """
    return f"{span_in_words(seconds)} left"


def _end_of(progress: Progress) -> str:
    if progress.left is None:
        return ""
    of = f" of the {progress.left_of}" if progress.left_of else ""
    return f" ({left_in_words(progress.left)}{of})"


def _line(progress: Progress) -> None:
    # Work does not stop because nobody reads how far it is.
    with suppress(OSError):
        if progress.ended:
            count = f"[{progress.finished}/{progress.total:g}]"
            sys.stderr.write(f"{count} {progress.text}{_end_of(progress)}\n")
            sys.stderr.flush()
