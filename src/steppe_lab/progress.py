"""How far long work is: the one type that work emits and terminals show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

State = Literal["waiting", "running", "finished", "failed"]

MINUTE = 60  # seconds
HOUR = 60 * MINUTE


@dataclass(frozen=True)
class Progress:
    """How far a piece of long work is.

    Args:
        done: so much of `total`, pieces that are begun counted in part.
        total: in the units of `done`.
        text: the present step, such as "epoch 3/30".
        run: the work: the id of a run or its name; "" where there is only one.
        state: of that run.
        finished: pieces that have ended, where `done` counts pieces.
        left: seconds until the end, estimated; None where that is not known.
        left_of: the part of the work that `left` is about; "" for all of it.
        row: numbers of an epoch of a training that is over, by the name of their
            column; None where no epoch has ended.
        texts: of a sample after that epoch, such as a sentence and its translation, by
            their names.
    """

    done: float = 0.0
    total: float = 1.0
    text: str = ""
    run: str = ""
    state: State = "running"
    finished: int = 0
    left: float | None = None
    left_of: str = ""
    row: Mapping[str, float] | None = None
    texts: Mapping[str, str] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """The share that is done, 0 to 1."""
        return min(max(self.done / self.total, 0.0), 1.0) if self.total else 1.0

    @property
    def ended(self) -> bool:
        """Whether the run has ended."""
        return self.state in ("finished", "failed")


Report = Callable[[Progress], None]


def stored(run: str) -> Progress:
    """A run that was finished before."""
    return Progress(1.0, text="stored", run=run, state="finished")


def silent(progress: Progress) -> None:
    """Report to nobody."""


def span_in_words(seconds: float) -> str:
    """An estimated time, in as many digits as an estimate has.

    Example:
        >>> span_in_words(3), span_in_words(42), span_in_words(130), span_in_words(9000)
        ('a few seconds', 'about 40 s', 'about 2 min', 'about 2.5 h')
    """
    if seconds < 7.5:
        return "a few seconds"
    if seconds < 1.5 * MINUTE:
        step = 5 if seconds < 30 else 10
        return f"about {step * round(seconds / step)} s"
    if seconds < 1.5 * HOUR:
        return f"about {round(seconds / MINUTE)} min"
    return f"about {seconds / HOUR:.1f} h"
