"""Data sets by name, read from the files their authors published."""

from steppe.registry.packages import discover
from steppe_lab.datasets.abstract import DATASETS, Dataset, DataSpec
from steppe_lab.datasets.loading import load, load_split
from steppe_lab.datasets.samples import (
    AbstractSamples,
    Standardisation,
    TensorSamples,
)
from steppe_lab.datasets.split import Selection, Split
from steppe_lab.datasets.tokens import TokenSamples

__all__ = [
    "DATASETS",
    "AbstractSamples",
    "DataSpec",
    "Dataset",
    "Selection",
    "Split",
    "Standardisation",
    "TensorSamples",
    "TokenSamples",
    "load",
    "load_split",
]

discover(__name__)
