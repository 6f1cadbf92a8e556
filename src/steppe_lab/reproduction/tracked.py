"""Numbers of trainings that were followed: their largest eigenvalue over time.

They are read from the table that `--track spectrum` keeps in the folder of a run, whose
first row is before the first step; None where a training was not followed.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steppe_lab.store.store import Store

TABLE = "track/history.csv"  # in the folder of a run
Runs = Mapping[str, str]  # ids by word


@dataclass(frozen=True)
class Followed:
    """A measurement along a training."""

    epoch: int  # epochs that are over
    largest: float  # eigenvalue of the Hessian


def followed(store: Store, runs: Runs) -> list[Followed]:
    """The measurements of a training in their order; none where it was not followed.

    Raises:
        StoreError: the table is damaged.
    """
    run = runs["training"]
    path = store.artefact(run, TABLE)
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [Followed(int(float(row["epoch"])), float(row["SN"])) for row in rows]
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise store.damaged(run, TABLE, "no table of eigenvalues") from error


def peak(store: Store, runs: Runs) -> float | None:
    """The largest eigenvalue of all measurements."""
    return max((each.largest for each in followed(store, runs)), default=None)


def rise(store: Store, runs: Runs) -> float | None:
    """The peak over the value before the first step."""
    rows = followed(store, runs)
    return _ratio(peak(store, runs), rows[0].largest) if rows else None


def fall(store: Store, runs: Runs) -> float | None:
    """The peak over the value at the end."""
    rows = followed(store, runs)
    return _ratio(peak(store, runs), rows[-1].largest) if rows else None


def change(store: Store, runs: Runs) -> float | None:
    """The value at the end over the one before the first step."""
    rows = followed(store, runs)
    return _ratio(rows[-1].largest, rows[0].largest) if rows else None


def at_best(store: Store, runs: Runs) -> float | None:
    """The value after the best epoch; where that was not measured, the last before."""
    best = float(store.result(runs["training"])["best"]["epoch"])
    before = [each.largest for each in followed(store, runs) if each.epoch <= best]
    return before[-1] if before else None


def _ratio(value: float | None, base: float) -> float | None:
    # Before training the largest eigenvalue may be 0, of which there is no ratio.
    return value / base if value is not None and base > 0 else None
