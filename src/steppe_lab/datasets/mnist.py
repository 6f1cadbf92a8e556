"""MNIST: 28 x 28 grey images of handwritten digits, 60,000 for training, 10,000 test.

Source: LeCun, Bottou, Bengio and Haffner, 1998, Gradient-based learning applied to
document recognition. Standardised with the mean 0.1307 and the standard deviation
0.3081 of all training pixels.
"""

from __future__ import annotations

from pathlib import Path

from steppe_lab.datasets.abstract import DATASETS, Dataset
from steppe_lab.datasets.formats.idx import read_grey_images
from steppe_lab.datasets.formats.published import Published

PUBLISHED = Published(
    title="MNIST",
    # A mirror of http://yann.lecun.com/exdb/mnist, which often refuses downloads.
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    folders=("mnist", "MNIST/raw", "."),
    put_into="mnist",
    suffixes=("", ".gz"),
)


@DATASETS.add("mnist", source="LeCun et al., 1998", folders=PUBLISHED.folders)
def mnist(*, data_dir: Path | None = None) -> Dataset:
    """Handwritten digits, 28 x 28 grey, from the official idx files.

    Args:
        data_dir: folder that holds mnist, MNIST/raw or the files themselves.
    """
    return read_grey_images(
        "mnist",
        PUBLISHED,
        data_dir,
        classes=tuple("0123456789"),
        mean=0.1307,
        std=0.3081,
    )
