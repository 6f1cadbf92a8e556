"""MNIST: 28 x 28 grey images of handwritten digits, 60,000 for training, 10,000 test.

Source: LeCun, Bottou, Bengio and Haffner, 1998, Gradient-based learning applied to
document recognition.
"""

from __future__ import annotations

from pathlib import Path

from steppe_lab.datasets.abstract import DATASETS, Dataset
from steppe_lab.datasets.formats.idx import read_grey_images
from steppe_lab.datasets.formats.published import Published
from steppe_lab.datasets.standardising import ChannelStatistics, Standardise

PUBLISHED = Published(
    title="MNIST",
    # A mirror of http://yann.lecun.com/exdb/mnist, which often refuses downloads.
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    folders=("mnist", "MNIST/raw", "."),
    put_into="mnist",
    suffixes=("", ".gz"),
)
STATISTICS = ChannelStatistics(mean=(0.1307,), std=(0.3081,))


@DATASETS.add(
    "mnist",
    source="LeCun et al., 1998",
    folders=PUBLISHED.folders,
    later=("standardise",),
)
def mnist(
    *, data_dir: Path | None = None, standardise: Standardise = "channel"
) -> Dataset:
    """Handwritten digits, 28 x 28 grey, from the official idx files.

    Args:
        data_dir: folder that holds mnist, MNIST/raw or the files themselves.
        standardise: with which statistics; see `standardisation_of`.
    """
    return read_grey_images(
        "mnist",
        PUBLISHED,
        data_dir,
        classes=tuple("0123456789"),
        statistics=STATISTICS,
        standardise=standardise,
    )
