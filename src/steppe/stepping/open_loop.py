"""The loop of passes that a caller has begun and may leave at any time."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Generator

Loop = Generator[int, None, None]


def is_over(loop: Loop) -> bool:
    """Whether a loop of passes has ended or been closed."""
    return inspect.getgeneratorstate(loop) == inspect.GEN_CLOSED


class OpenLoop:
    """The loop of passes that was begun last, as long as its caller keeps it."""

    def __init__(self, loop: Loop | None = None) -> None:
        self._loop = None if loop is None else weakref.ref(loop)

    def get(self) -> Loop | None:
        """The loop, unless it is over."""
        loop = None if self._loop is None else self._loop()
        return None if loop is None or is_over(loop) else loop

    def close(self) -> bool:
        """End it, so that the weights come back; whether it was still open."""
        loop = self.get()
        if loop is not None:
            loop.close()
        return loop is not None
