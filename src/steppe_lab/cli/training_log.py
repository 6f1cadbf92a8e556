"""The epochs of a training on the terminal or in a log, at most one each second."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from steppe_lab.cli.progress import progress
from steppe_lab.progress import HOUR, MINUTE, Progress, Report

EVERY = 1.0  # seconds between two lines, at least: more nobody reads
UNSCORED = 3.0  # the same before an epoch without scores: one with them may come
AVERAGED = "average_"  # before the scores of an average of the weights
LEAST = 9  # columns of a number
UNBOUNDED = 10**6  # columns of a log
# Left out one after the other where the terminal is too narrow for all.
SPARE = ("samples/s", "lr", "loss")


@contextmanager
def training_log(judged_on: str) -> Iterator[Report]:
    """Show a line for each epoch on stderr, and on a terminal a bar below them.

    Args:
        judged_on: name of the samples that the network is judged on, in headings.
    """
    columns = shutil.get_terminal_size().columns
    lines = Lines(judged_on, columns if sys.stderr.isatty() else UNBOUNDED)
    with progress() as tell:

        def show(report: Progress) -> None:
            for line in lines.of(report):
                # Work does not stop because nobody reads how far it is.
                with suppress(OSError):
                    sys.stderr.write(f"{line}\n")
                    sys.stderr.flush()
            # The end of a run of one training says nothing that its last line does not.
            if not report.ended or report.state == "failed":
                tell(report)

        yield show


@dataclass
class Lines:
    """Lines of the epochs: headings first, the last epoch always.

    The mark of a line says that the best epoch so far has come since the line before.

    Args:
        judged_on: name of the samples that the network is judged on.
        width: columns of the terminal.
        clock: seconds.
    """

    judged_on: str
    width: int
    clock: Callable[[], float] = time.monotonic
    _written: float | None = None
    _known: set[str] = field(default_factory=set)  # headings, and those left out
    _names: list[str] = field(default_factory=list)
    _best: bool = False  # since the last line

    def of(self, report: Progress) -> Iterator[str]:
        """Lines for a report: none where the one before has just been written."""
        if report.row is None:
            return
        now = self.clock()
        scored = any(name.startswith("test_") for name in report.row)
        pause = EVERY if scored else UNSCORED
        early = self._written is not None and now - self._written < pause
        self._best |= bool(report.row.get("best"))
        if early and report.done < report.total:
            return
        cells = self._cells(report, report.row)
        if cells.keys() - self._known:  # the first epoch may have no scores
            self._known = set(cells)
            self._names = self._fitting(list(cells))
            yield self._line({name: name for name in cells})
        yield self._line(cells)
        yield from self._texts(report.texts)
        self._written, self._best = now, False

    def _cells(self, report: Progress, row: Mapping[str, float]) -> dict[str, str]:
        """The numbers of an epoch as text, by their headings."""
        cells = {
            "epoch": report.text.removeprefix("epoch "),
            "lr": f"{row['lr']:.3g}",
            "loss": f"{row['running_loss']:.4g}",
        }
        parts = {"train": "train", "test": self.judged_on}
        names = [n.removeprefix("test_") for n in row if n.startswith("test_")]
        for name in names:
            for part, title in parts.items():
                own = f"{part}_{name}"
                value = row.get(AVERAGED + own, row.get(own))
                if value is not None:
                    cells[f"{title} {name}".replace("_", " ")] = f"{value:.4g}"
        cells["best"] = "*" if self._best else ""
        cells["samples/s"] = f"{row['samples_per_second']:.4g}"
        cells["elapsed"] = elapsed(row["seconds"])
        return cells

    def _texts(self, texts: Mapping[str, str]) -> Iterator[str]:
        """A line for each text of a sample, cut where the terminal ends."""
        widest = max(map(len, texts), default=0)
        for name, text in texts.items():
            # A file of a data set may hold commands for the terminal.
            plain = "".join(c if c.isprintable() else " " for c in text)
            yield f"  {name.rjust(widest)}: {plain}"[: self.width]

    def _fitting(self, names: list[str]) -> list[str]:
        for spare in SPARE:
            if sum(max(len(n), LEAST) + 1 for n in names) > self.width:
                names = [name for name in names if name != spare]
        return names

    def _line(self, cells: Mapping[str, str]) -> str:
        # An epoch without scores leaves their places empty.
        widths = {name: max(len(name), LEAST) for name in self._names}
        return " ".join(cells.get(n, "").rjust(w) for n, w in widths.items()).rstrip()


def elapsed(seconds: float) -> str:
    """A time as hours, minutes and seconds.

    Example:
        >>> elapsed(7.4), elapsed(3725)
        ('0:07', '1:02:05')
    """
    whole = round(seconds)
    hours, rest = divmod(whole, HOUR)
    minutes, left = divmod(rest, MINUTE)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"
