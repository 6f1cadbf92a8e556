"""Fashion-MNIST: 28 x 28 grey images of clothes, 60,000 for training, 10,000 test.

Source: Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747. Standardised with the mean
0.2860 and the standard deviation 0.3530 of all training pixels.
"""

from __future__ import annotations

from pathlib import Path

from steppe_lab.datasets.abstract import DATASETS, Dataset
from steppe_lab.datasets.formats.idx import read_grey_images
from steppe_lab.datasets.formats.published import Published

PUBLISHED = Published(
    title="Fashion-MNIST",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "."),
    put_into="fashion-mnist",
    suffixes=("", ".gz"),
)

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
)
def fashion_mnist(*, data_dir: Path | None = None) -> Dataset:
    """Clothes, 28 x 28 grey, from the official idx files.

    Args:
        data_dir: folder that holds fashion-mnist, FashionMNIST/raw or the files.
    """
    return read_grey_images(
        "fashion_mnist", PUBLISHED, data_dir, classes=CLASSES, mean=0.2860, std=0.3530
    )
