"""Fashion-MNIST: 28 x 28 grey images of clothes, 60,000 for training, 10,000 test.

Source: Xiao, Rasul and Vollgraf, 2017, arXiv:1708.07747.
"""

from __future__ import annotations

from pathlib import Path

from steppe_lab.datasets.abstract import DATASETS, Dataset, Size
from steppe_lab.datasets.formats.idx import read_grey_images
from steppe_lab.datasets.formats.published import Download, Published
from steppe_lab.datasets.standardising import ChannelStatistics, Standardise

URL = "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"
FILES = {  # bytes, MD5 in the authors' README
    "train-images-idx3": (26421880, "8d4fb7e6c68d591d4c3dfef9ec88bf0d"),
    "train-labels-idx1": (29515, "25c81989df183df01b3e8a0aad5dffbe"),
    "t10k-images-idx3": (4422102, "bef4ecab320f06d8554ea6380940ec79"),
    "t10k-labels-idx1": (5148, "bb300cfdad3c16e7a12a480ee83cd310"),
}
PUBLISHED = Published(
    name="fashion_mnist",
    title="Fashion-MNIST",
    url=URL,
    downloads=tuple(
        Download(f"{URL}{file}-ubyte.gz", size, f"md5:{digest}")
        for file, (size, digest) in FILES.items()
    ),
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
    published=PUBLISHED,
    size=Size(train=60_000, test=10_000, in_shape=(1, 28, 28), outputs=10),
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
