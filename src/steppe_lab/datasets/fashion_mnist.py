"""Fashion-MNIST: 28 x 28 grey images of clothes, 60,000 for training, 10,000 test.

Source: Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747.
"""

from __future__ import annotations

from pathlib import Path

from steppe_lab.datasets.abstract import DATASETS, Dataset
from steppe_lab.datasets.formats.idx import read_grey_images
from steppe_lab.datasets.formats.published import Published
from steppe_lab.datasets.standardising import ChannelStatistics, Standardise

PUBLISHED = Published(
    title="Fashion-MNIST",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "."),
    put_into="fashion-mnist",
    suffixes=("", ".gz"),
)
STATISTICS = ChannelStatistics(mean=(0.2860,), std=(0.3530,))

CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


@DATASETS.add(
    "fashion_mnist",
    source="Xiao et al., 2017, arXiv:1708.07747",
    folders=PUBLISHED.folders,
    later=("standardise",),
)
def fashion_mnist(
    *, data_dir: Path | None = None, standardise: Standardise = "channel"
) -> Dataset:
    """Clothes, 28 x 28 grey, from the official idx files.

    Args:
        data_dir: folder that holds fashion-mnist, FashionMNIST/raw or the files.
        standardise: with which statistics; see `standardisation_of`.
    """
    return read_grey_images(
        "fashion_mnist",
        PUBLISHED,
        data_dir,
        classes=CLASSES,
        statistics=STATISTICS,
        standardise=standardise,
    )
