"""Scores of trainings that the tables of studies do not have, or have otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel

    from steppe_lab.store.store import Store
    from steppe_lab.studies.plan import Trial

    Reader = Callable[[Store, Mapping[str, str]], float | None]

SCORING = "scoring"  # word for a run beside "training"
Runs = Mapping[str, str]  # ids by word


def best_on_test(trial: Trial) -> Mapping[str, BaseModel]:
    """A run that scores on the test set the network that validation samples chose.

    The training has to keep it: with `checkpoint_every`, 0 for the best and few others.
    """
    from steppe_lab.runs.scoring import Scoring

    record = Scoring(training=trial.run, checkpoint="best", code=trial.recipe.code)
    return {SCORING: record}


def accuracy_on_test(store: Store, runs: Runs) -> float:
    """Share of test samples that are right by such a run."""
    return 1.0 - float(store.result(runs[SCORING])["error"])


def best_accuracy(store: Store, runs: Runs) -> float:
    """Share of samples judged on that are right, at the epoch where it is largest."""
    return 1.0 - float(store.result(runs["training"])["best"]["test_error"])


def last_accuracy(store: Store, runs: Runs) -> float:
    """The same after the last epoch."""
    return 1.0 - float(store.result(runs["training"])["last"]["test_error"])


def last_train_loss(store: Store, runs: Runs) -> float:
    """Loss on the training samples after the last epoch."""
    return float(store.result(runs["training"])["last"]["train_loss"])


def accuracy_after(epoch: int) -> Reader:
    """Reads the share of samples judged on that are right after an epoch.

    Args:
        epoch: counted from 1. Of a training that is planned to be shorter, as at a
            small scale, its last epoch is read; of one that stopped before, None.
    """

    def read(store: Store, runs: Runs) -> float | None:
        from steppe_lab.runs.training import HISTORY
        from steppe_lab.store.json_files import read_record

        run = runs["training"]
        rows = read_record(store.artefact(run, HISTORY))["epochs"]
        read_at = min(epoch, int(store.config(run)["epochs"]))
        if read_at > len(rows):
            return None
        return 1.0 - float(rows[read_at - 1]["test_error"])

    return read
