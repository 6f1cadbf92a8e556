"""MNIST: 28 x 28 grey images of handwritten digits, 60,000 for training, 10,000 test.

Source: LeCun, Bottou, Bengio and Haffner, 1998, Gradient-based learning applied to
document recognition.
"""

from __future__ import annotations

from pathlib import Path

from steppe_lab.datasets.abstract import DATASETS, Dataset, Size
from steppe_lab.datasets.formats.idx import read_grey_images
from steppe_lab.datasets.formats.published import Download, Published
from steppe_lab.datasets.standardising import ChannelStatistics, Standardise

# A mirror of http://yann.lecun.com/exdb/mnist, which often refuses downloads.
URL = "https://ossci-datasets.s3.amazonaws.com/mnist/"
FILES = {  # bytes, SHA-256
    "train-images-idx3": (
        9912422,
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    ),
    "train-labels-idx1": (
        28881,
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    ),
    "t10k-images-idx3": (
        1648877,
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    ),
    "t10k-labels-idx1": (
        4542,
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
}
PUBLISHED = Published(
    name="mnist",
    title="MNIST",
    url=URL,
    downloads=tuple(
        Download(f"{URL}{file}-ubyte.gz", size, f"sha256:{digest}")
        for file, (size, digest) in FILES.items()
    ),
    folders=("mnist", "MNIST/raw", "."),
    put_into="mnist",
    suffixes=("", ".gz"),
)
STATISTICS = ChannelStatistics(mean=(0.1307,), std=(0.3081,))


@DATASETS.add(
    "mnist",
    source="LeCun et al., 1998",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    size=Size(train=60_000, test=10_000, in_shape=(1, 28, 28), outputs=10),
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
