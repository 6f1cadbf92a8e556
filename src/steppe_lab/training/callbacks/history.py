"""The table of a training, a row for each epoch: `history.csv` and TensorBoard.

`history.json` holds the numbers that follow from the recipe; the table has times too,
and so differs from one machine to the next.
"""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steppe_lab.store.json_files import write_atomically
from steppe_lab.tasks import AbstractTask
from steppe_lab.training.callbacks.abstract import AbstractCallback, nothing
from steppe_lab.training.evaluation import AVERAGED
from steppe_lab.training.tensorboard import EventWriter

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState

TABLE = "history.csv"
EVENTS = "tensorboard"  # folder of the events
WRITE_EVERY = 1.0  # seconds; an epoch of a small network takes a few milliseconds
# Units of the columns that are no scores.
UNITS: Mapping[str, str] = {
    "epoch": "epochs that are over",
    "seconds": "s of training so far, scoring included, stops left out",
    "samples_per_second": "training samples / s in the steps of the epoch",
    "lr": "learning rate of the last step",
    "running_loss": "that of the loss; mean over the steps, in train mode",
    "running_perturbed_loss": "that of the loss; the same at perturbed weights",
    "grad_norm": "mean of the steps' joint gradient norms, before clipping",
    "grad_norm_max": "the largest of these norms",
    "skipped_steps": "steps left out because float16 overflowed",
    "batch_size": "samples of a batch, where that changes over the epochs",
    "weight_decay": "that of the epoch, where it changes over the epochs",
    "l2": "that of the epoch, where it changes over the epochs",
    "best": "1 where the epoch was the best so far, else 0",
}


def unit_of(column: str, task: AbstractTask) -> str:
    """The unit of a column of the table; "" where it is that of a method's setting.

    Args:
        column: its name, such as "average_test_error".
        task: of the training.
    """
    if column in UNITS:
        return UNITS[column]
    name = column.removeprefix(AVERAGED)
    metrics = (task.headline, *task.others, *task.corpus_metrics)
    scores = {m.name: m.units for m in metrics}
    scores["loss"] = UNITS["running_loss"].partition(";")[0]
    named = name.startswith(("train_", "test_"))
    ending = next((each for each in scores if name.endswith(f"_{each}")), "")
    return scores[ending] if named and ending else ""


class History(AbstractCallback):
    """Keeps the table of a training, and writes it as long as it goes on.

    Args:
        folder: of the run; None writes nothing.
        writer: takes every number too, by the name of its column.

    Attributes:
        write_every: seconds between two times that the file is written, at least.
    """

    begin = before_epoch = before_step = after_step = nothing

    def __init__(self, folder: Path | None, writer: EventWriter | None) -> None:
        self._folder = folder
        self._writer = writer
        self._times: list[dict[str, float]] = []  # columns beside those of the history
        self._written = 0.0
        self.write_every = WRITE_EVERY

    def after_epoch(self, state: TrainingState, row: dict[str, float]) -> None:
        """Add a row; the file is whole after the last epoch."""
        times = {
            "seconds": state.seconds,
            "samples_per_second": state.samples_per_second,
            "best": int(state.epoch == state.best_epoch),
        }
        self._times.append(times)
        state.shown = _joined(row, times)
        if self._writer is not None:
            for name, value in state.shown.items():
                if name != "epoch":
                    self._writer.add_scalar(name, value, state.epoch)
        due = time.monotonic() - self._written >= self.write_every
        if self._folder is not None and (due or not state.goes_on):
            rows = map(_joined, state.history, self._times)
            write_atomically(self._folder / TABLE, as_csv(list(rows)))
            self._written = time.monotonic()

    def state_dict(self) -> dict[str, Any]:
        """Times of the epochs that are over."""
        return {"times": self._times}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on with the times of the epochs that are over."""
        self._times = list(state["times"])


def as_csv(rows: Sequence[Mapping[str, float]]) -> str:
    """Rows as a table; a number that a row lacks is left out, as scores may be."""
    # The order of the fullest row: what others have beside comes after it.
    fullest = max(rows, key=len)
    columns = list(dict.fromkeys([*fullest, *(name for row in rows for name in row)]))
    text = io.StringIO()
    table = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _joined(row: Mapping[str, float], times: Mapping[str, float]) -> dict[str, float]:
    return {"epoch": row["epoch"], **times, **row}
