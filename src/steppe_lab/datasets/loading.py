"""Data of a run: the data set that its settings name, split as they say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from steppe.errors import DataError, SteppeError
from steppe.registry.registry import Choice, is_code, one_line
from steppe_lab.datasets.abstract import DATASETS, Dataset
from steppe_lab.datasets.seeding import seeded
from steppe_lab.datasets.split import Selection, Split

DATA_DIR = "STEPPE_DATA_DIR"  # where workers find data; no part of a run's identity
LOAD = "data is read by load(*, data_dir, settings...) -> steppe_lab.datasets.Dataset"


class DataSettings(Protocol):
    """Settings that name a data set and the samples of it, such as a recipe."""

    @property
    def data(self) -> Choice:
        """The data set."""

    @property
    def selection(self) -> Selection:
        """Which samples, with which labels."""


def load(which: Choice | str, data_dir: Path | None = None) -> Dataset:
    """Read a data set.

    Args:
        which: its name, with settings if it has any; `fashion-mnist` is read as
            `fashion_mnist`.
        data_dir: folder that holds the files of one or many data sets.

    Raises:
        UnknownNameError: no such data set.
        DataError: files missing, damaged or not what their format promises, or code
            of the user that does not give a data set.
    """
    if isinstance(which, str):
        which = DATASETS.parse(which)
    try:
        dataset = DATASETS.build(which, data_dir=data_dir)
    except (Exception, SystemExit) as error:
        if isinstance(error, SteppeError) or not is_code(which.name):
            raise
        raise DataError(f"data {which.name} failed ({one_line(error)}); {LOAD}.") from (
            error
        )
    if not isinstance(dataset, Dataset):
        raise DataError(
            f"data {which.name} must give a Dataset, got {type(dataset).__name__}; "
            f"{LOAD}."
        )
    return dataset


def load_split(settings: DataSettings, data_dir: Path | None = None) -> Split:
    """Read the samples that settings name.

    Args:
        settings: the data set and the selection of its samples.
        data_dir: folder of the files; None for that of the environment, if any.
    """
    if data_dir is None and DATA_DIR in os.environ:
        data_dir = Path(os.environ[DATA_DIR])
    # Code of the user may draw: every process must get the same samples.
    with seeded(0):
        dataset = load(settings.data, data_dir)
    return settings.selection.apply(dataset)
