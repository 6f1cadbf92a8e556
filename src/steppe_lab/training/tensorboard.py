"""Numbers for TensorBoard, where that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from steppe.errors import SettingError, install


class EventWriter:
    """A TensorBoard writer whose numbers are on disk at once.

    What a run that was stopped wrote beyond the first number is out of date, and is
    marked so.

    Args:
        folder: gets the events, when the first number comes.

    Raises:
        SettingError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self._make = summary_writer()
        self._folder = folder
        self._writer: Any = None

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None:
        """Write a number."""
        if self._writer is None:
            self._writer = self._make(str(self._folder), purge_step=global_step)
        self._writer.add_scalar(tag, scalar_value, global_step)
        self._writer.flush()


def summary_writer() -> Callable[..., Any]:
    """The class of torch that writes events.

    Raises:
        SettingError: TensorBoard is not installed.
    """
    try:
        module = importlib.import_module("torch.utils.tensorboard")
    except ImportError:
        raise SettingError(
            "tensorboard needs TensorBoard, which is not installed; "
            f"{install('tensorboard')}, or leave it out: history.csv holds the same "
            "numbers."
        ) from None
    writer: Callable[..., Any] = module.SummaryWriter
    return writer
