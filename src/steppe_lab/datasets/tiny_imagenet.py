"""Tiny ImageNet: 64 x 64 colour images of 200 kinds of things, 500 of each.

Source: Stanford course CS231N, 2015, from Deng et al., 2009, ImageNet. The labels of
its test images are not public: the 10,000 validation images are the test set here.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from steppe.errors import DataError
from steppe_lab.datasets.abstract import DATASETS, Dataset, Size, note_on_count
from steppe_lab.datasets.formats.image_folders import (
    ImageFolder,
    images_in,
    lines_of,
    numbered,
    read_image_folder,
    titles,
)
from steppe_lab.datasets.formats.images import Exactly, decoded
from steppe_lab.datasets.formats.published import (
    Download,
    Published,
    folder_of,
)
from steppe_lab.datasets.samples import TensorSamples
from steppe_lab.datasets.standardising import (
    ChannelStatistics,
    Standardise,
    standardisation_of,
)

URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TOP = "tiny-imagenet-200"
PUBLISHED = Published(
    name="tiny_imagenet",
    title="Tiny ImageNet",
    url=URL,
    # No digest is published; this MD5 is that of many programs.
    downloads=(Download(URL, 248100043, "md5:90528d7ca1a48142e341f4ef8d21d0de"),),
    top=TOP,
    folders=(
        TOP,
        f"tiny-imagenet/{TOP}",
        "tiny-imagenet",
        "tiny-imagenet-subset",
        ".",
    ),
    put_into=".",
    unpack=True,
    of_folders=True,
)
STATISTICS = ChannelStatistics(
    mean=(0.4802, 0.4481, 0.3975),
    std=(0.2770, 0.2691, 0.2821),
    image_std=(0.2302, 0.2265, 0.2262),
)
SIDE = 64  # pixels
OFFICIAL = {"training": 100_000, "validation": 10_000}  # images
OFFICIAL_CLASSES = 200
ANNOTATIONS = "val_annotations.txt"


@DATASETS.add(
    "tiny_imagenet",
    source="Deng et al., 2009, ImageNet",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    size=Size(
        train=OFFICIAL["training"],
        test=OFFICIAL["validation"],
        in_shape=(3, 64, 64),
        outputs=OFFICIAL_CLASSES,
    ),
    later=("standardise",),
)
def tiny_imagenet(
    *, data_dir: Path | None = None, standardise: Standardise = "channel"
) -> Dataset:
    """Photographs of 200 kinds of things, 64 x 64 colour, from the official JPEGs.

    Args:
        data_dir: folder that holds tiny-imagenet-200, or that folder itself.
        standardise: with which statistics; see `standardisation_of`.
    """
    folder = folder_of(PUBLISHED, data_dir, ["train", "val"])
    again = PUBLISHED.fix(folder.parent)
    train = read_image_folder(folder, "train", again)
    annotated = (folder / "val" / ANNOTATIONS).is_file()
    read = _annotated if annotated else read_image_folder
    test = read(folder, "val", again)
    classes, (targets, test_targets) = numbered(folder, train, test, again)
    pixels, test_pixels = _pixels(folder, train), _pixels(folder, test)
    standardisation = standardisation_of(pixels, standardise, STATISTICS)
    notes: tuple[str, ...] = ()
    if len(classes) != OFFICIAL_CLASSES:
        notes = (f"{len(classes)} of {OFFICIAL_CLASSES} official classes",)
    return Dataset(
        name="tiny_imagenet",
        train=TensorSamples(pixels, targets, standardisation),
        test=TensorSamples(test_pixels, test_targets, standardisation),
        classes=titles(folder, classes),
        notes=notes
        + note_on_count("training", len(pixels), OFFICIAL["training"])
        + note_on_count("validation", len(test_pixels), OFFICIAL["validation"]),
    )


def _annotated(folder: Path, part: str, again: str) -> ImageFolder:
    """Images of one folder, whose classes a text file names."""
    path = folder / part / ANNOTATIONS
    files = images_in(folder / part / "images")
    rows = [row.split("\t") for row in lines_of(path) if row.strip()]
    classes = {row[0]: row[1] for row in rows if len(row) > 1}
    unnamed = next((name for name in files if name not in classes), None)
    missing = next((name for name in classes if name not in files), None)
    if unnamed is not None or missing is not None or not files:
        reason = (
            f"it lacks {unnamed}, which is in images"
            if unnamed is not None
            else f"images lacks {missing}, which it names"
        )
        raise DataError(
            f"{path} must name the class of each image in {folder / part / 'images'} "
            f"({reason}); {again}."
        )
    return ImageFolder(
        tuple(f"{part}/images/{name}" for name in files),
        tuple(files.values()),
        tuple(classes[name] for name in files),
    )


def _pixels(folder: Path, files: ImageFolder) -> Tensor:
    """All images, uint8 of shape (N, 3, 64, 64)."""
    paths = [folder / name for name in files.names]
    pixels: Tensor = decoded(paths, [Exactly(SIDE)] * len(paths))
    return pixels.to(torch.uint8)
