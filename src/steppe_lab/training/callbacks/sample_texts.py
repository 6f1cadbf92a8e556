"""Texts of one sample after every epoch, such as a sentence and its translation."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steppe_lab.datasets.samples import AbstractSamples
from steppe_lab.store.json_files import json_line, write_atomically
from steppe_lab.training.callbacks.abstract import AbstractCallback, nothing
from steppe_lab.training.callbacks.history import WRITE_EVERY

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState

FILE = "sample_texts.jsonl"


class SampleTexts(AbstractCallback):
    """Keeps the texts of one sample, a line for each epoch, and shows them.

    It is the same sample all along, so that progress can be read.

    Args:
        sample: the only one of its samples.
        folder: of the run; None writes nothing.
    """

    begin = before_epoch = before_step = after_step = nothing

    def __init__(self, sample: AbstractSamples, folder: Path | None) -> None:
        self._sample = sample
        self._folder = folder
        self._rows: list[dict[str, Any]] = []  # of the epochs that are over
        self._written = 0.0

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Ask the network for its texts; the file is whole after the last epoch."""
        texts = state.processes.of_first(lambda: self._texts(state))
        state.texts = texts
        self._rows.append({"epoch": state.epoch, **texts})
        due = time.monotonic() - self._written >= WRITE_EVERY
        if self._folder is not None and (due or not state.goes_on):
            lines = "".join(f"{json_line(each)}\n" for each in self._rows)
            write_atomically(self._folder / FILE, lines)
            self._written = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Texts of the epochs that are over."""
        return {"rows": self._rows}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the texts of the epochs that are over."""
        self._rows = list(state["rows"])

    def _texts(self, state: TrainingState) -> dict[str, str]:
        scores = state.task.corpus_scores(state.model, self._sample)
        return {name: texts[0] for name, texts in scores.texts.items()}
