"""ImageNet: photographs of 1,000 kinds of things, 1,281,167 and 50,000 for validation.

Source: Russakovsky et al., 2015, ImageNet large scale visual recognition challenge,
arXiv:1409.0575. Images are decoded when they are asked for; scores and measures see the
middle of an image, and training too unless it is augmented with `resized_crop`. The
labels of the test images are not public: the validation images are the test set here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges
from steppe_lab.datasets.abstract import DATASETS, Dataset, Size, note_on_count
from steppe_lab.datasets.formats.image_folders import (
    ImageFolder,
    numbered,
    read_image_folder,
    titles,
)
from steppe_lab.datasets.formats.images import Centre
from steppe_lab.datasets.formats.published import Published, folder_of
from steppe_lab.datasets.image_files import ImageFiles
from steppe_lab.datasets.samples import Standardisation

PUBLISHED = Published(
    name="imagenet",
    title="ImageNet",
    url="https://image-net.org/challenges/LSVRC/2012/",
    folders=("imagenet", "ILSVRC2012", "ImageNet", "."),
    put_into="imagenet",
    unpack=True,
    of_folders=True,
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
OFFICIAL = {"training": 1_281_167, "validation": 50_000}  # images
OFFICIAL_CLASSES = 1000
MOST_SIDE = 4096  # pixels
BOUNDS: Ranges = {
    "size": Range(1, MOST_SIDE, whole=True),
    "resize": Range(1, MOST_SIDE, whole=True),
}


def _size(size: int, resize: int, standardise: str = "") -> Size:
    """The published size, for images of so many pixels on each side."""
    del resize, standardise
    return Size(
        train=OFFICIAL["training"],
        test=OFFICIAL["validation"],
        in_shape=(3, size, size),
        outputs=OFFICIAL_CLASSES,
    )


@DATASETS.add(
    "imagenet",
    source="Russakovsky et al., 2015, arXiv:1409.0575",
    folders=PUBLISHED.folders,
    published=PUBLISHED,
    bounds=BOUNDS,
    size=_size,
    later=("standardise",),
)
def imagenet(
    *,
    data_dir: Path | None = None,
    size: int = 224,
    resize: int = 256,
    standardise: Literal["channel", "unit"] = "channel",
) -> Dataset:
    """Photographs of 1,000 kinds of things, any size, in folders train and val.

    Args:
        data_dir: folder that holds imagenet, or that folder itself, with a folder for
            each class in train and val.
        size: pixels on each side of the middle that is cut out.
        resize: pixels that the shorter side of an image is brought to before.
        standardise: channel for the usual means and deviations, unit for pixels from 0
            to 1 as they are.

    Raises:
        SettingError: a middle that is larger than the image.
    """
    if size > resize:
        raise SettingError(
            f"size must be at most resize = {resize}, got {size} for imagenet."
        )
    folder = folder_of(PUBLISHED, data_dir, ["train", "val"])
    again = PUBLISHED.fix(folder)
    train, test = (read_image_folder(folder, part, again) for part in ("train", "val"))
    classes, both = numbered(folder, train, test, again)
    mean, std = (MEAN, STD) if standardise == "channel" else ((0.0,) * 3, (1.0,) * 3)
    standardisation = Standardisation(mean=mean, std=std, scale=255)

    def samples(files: ImageFolder, targets: Tensor) -> ImageFiles:
        return ImageFiles(
            folder=folder,
            names=files.names,
            bytes=torch.tensor(files.bytes),
            files=torch.arange(len(files.names)),
            targets=targets,
            centre=Centre(resize, size),
            standardisation=standardisation,
        )

    parts = [samples(*each) for each in zip((train, test), both, strict=True)]
    notes: tuple[str, ...] = ()
    if len(classes) != OFFICIAL_CLASSES:
        notes = (f"{len(classes)} of {OFFICIAL_CLASSES:,} official classes",)
    return Dataset(
        name="imagenet",
        train=parts[0],
        test=parts[1],
        classes=titles(folder, classes),
        notes=notes
        + note_on_count("training", len(parts[0]), OFFICIAL["training"])
        + note_on_count("validation", len(parts[1]), OFFICIAL["validation"]),
    )
