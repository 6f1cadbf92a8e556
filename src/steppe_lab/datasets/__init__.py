"""Data sets by name, read from the files their authors published."""

from pathlib import Path

from steppe.errors import DataError, SteppeError
from steppe.registry.registry import Choice, discover, is_code, one_line
from steppe_lab.datasets.abstract import DATASETS, Dataset, DataSpec
from steppe_lab.datasets.samples import (
    AbstractSamples,
    Standardisation,
    TensorSamples,
)
from steppe_lab.datasets.split import Selection, Split

__all__ = [
    "DATASETS",
    "AbstractSamples",
    "DataSpec",
    "Dataset",
    "Selection",
    "Split",
    "Standardisation",
    "TensorSamples",
    "load",
]

LOAD = "data is read by load(*, data_dir, settings...) -> steppe_lab.datasets.Dataset"

discover(__name__)


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
