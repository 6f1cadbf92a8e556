"""Signals that ask a command to stop: when they raise, and which processes they reach.

A command stops by an exception, so that its workers end and their leases are freed.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from types import FrameType
from typing import NoReturn

# Of the terminal and of whoever schedules the command; not every system has them all.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_STOPS = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]


class Stopped(KeyboardInterrupt):
    """A signal other than Ctrl-C asked this process to stop."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def stop_by_exception() -> None:
    """Let each signal that would end this process at once raise `Stopped` instead."""
    for number in _STOPS:
        # One that is ignored, as under nohup, stays so; Ctrl-C raises already.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def _raise(number: int, _: FrameType | None) -> NoReturn:
    raise Stopped(number)


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Let signals that stop this process raise at the end of the block, not in it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals raise in the main thread alone
        return
    came: list[tuple[Callable[..., object], int, FrameType | None]] = []
    handlers = {number: signal.getsignal(number) for number in _STOPS}
    raising = {n: handler for n, handler in handlers.items() if callable(handler)}

    def note(number: int, frame: FrameType | None) -> None:
        came.append((raising[number], number, frame))

    try:
        # Not the mask of this thread: another thread takes the signal then, and Python
        # raises here all the same.
        for number in raising:
            signal.signal(number, note)
        yield
    finally:
        for number, handler in raising.items():
            signal.signal(number, handler)
        for handler, number, frame in came[:1]:
            handler(number, frame)


@contextlib.contextmanager
def blocked() -> Iterator[None]:
    """Keep these signals from a process started here, until it lets them through."""
    if not hasattr(signal, "pthread_sigmask"):
        with postponed():
            yield
        return
    # Starting the tracker unblocks the signal, so it is started before.
    resource_tracker.ensure_running()
    with postponed():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def leave_ctrl_c_to_the_parent() -> None:
    """Ignore Ctrl-C in this process, and end at once by the other signals."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
