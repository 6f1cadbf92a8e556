"""Data sets by name, read from the files their authors published."""

from pathlib import Path

from steppe.registry import discover
from steppe_lab.datasets.dataset import DATASETS, Dataset, DataSpec
from steppe_lab.datasets.selection import Selection, Split

__all__ = ["DATASETS", "DataSpec", "Dataset", "Selection", "Split", "load"]

discover(__name__)


def load(name: str, data_dir: Path | None = None) -> Dataset:
    """Read a registered data set.

    Args:
        name: its registered name; `fashion-mnist` is read as `fashion_mnist`.
        data_dir: folder that holds the files of one or many data sets.

    Raises:
        UnknownNameError: no such data set.
        DataError: files missing, damaged or not what their format promises.
    """
    dataset = DATASETS.build(name.replace("-", "_"), data_dir=data_dir)
    assert isinstance(dataset, Dataset)
    return dataset
