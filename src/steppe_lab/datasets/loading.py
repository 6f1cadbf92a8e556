"""Data of a run: the data set that its settings name, split as they say."""

from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any, Protocol

from steppe.errors import DataError, SteppeError, brief
from steppe.registry.registry import Choice, is_code, one_line
from steppe_lab.datasets.abstract import DATASETS, Dataset
from steppe_lab.datasets.own import OwnData
from steppe_lab.datasets.seeding import seeded
from steppe_lab.datasets.split import Selection, Split

DATA_DIR = "STEPPE_DATA_DIR"  # where workers find data; no part of a run's identity
LOAD = "data is read by load(*, data_dir, settings...) -> steppe_lab.datasets.Dataset"
FOLDER = "data_dir"  # keyword of functions that read files


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
            of the user that does not give a data set or tensors that make one.
    """
    data = load_any(which, data_dir)
    return data.dataset() if isinstance(data, OwnData) else data


def load_any(which: Choice | str, data_dir: Path | None = None) -> Dataset | OwnData:
    """Read a data set, or data of a function of the user.

    Raises:
        UnknownNameError: no such data set.
        DataError: files missing, damaged or not what their format promises, or code
            of the user that gives no data.
    """
    if isinstance(which, str):
        which = DATASETS.parse(which)
    given: dict[str, Any] = {FOLDER: data_dir}
    if is_code(which.name) and not _takes(DATASETS[which.name].make, FOLDER):
        given = {}
    try:
        dataset = DATASETS.build(which, **given)
    except (Exception, SystemExit) as error:
        if isinstance(error, SteppeError) or not is_code(which.name):
            raise
        raise DataError(f"data {which.name} failed ({one_line(error)}); {LOAD}.") from (
            error
        )
    if isinstance(dataset, Dataset):
        return dataset
    if not is_code(which.name):
        raise DataError(f"data {which.name} must give a Dataset, got {brief(dataset)}.")
    return OwnData.of(which.name, dataset)


def _takes(function: Any, keyword: str) -> bool:
    """Whether a function can be called with a keyword, as far as Python can see."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    return anything or keyword in parameters


def load_split(settings: DataSettings, data_dir: Path | None = None) -> Split:
    """Read the samples that settings name.

    Args:
        settings: the data set and the selection of its samples.
        data_dir: folder of the files; None for that of the environment, if any.
    """
    # Code of the user may draw: every process must get the same samples.
    with seeded(0):
        dataset = load(settings.data, data_dir or folder_of_data())
    return settings.selection.apply(dataset)


def folder_of_data() -> Path | None:
    """The folder that the environment names, if any."""
    return Path(os.environ[DATA_DIR]) if DATA_DIR in os.environ else None
