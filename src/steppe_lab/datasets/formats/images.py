"""Photographs in files, JPEG or PNG, decoded by Pillow.

Shape letters: B images, H rows, W columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from steppe.errors import DataError, install

if TYPE_CHECKING:
    from PIL import Image

FORMATS = ("JPEG", "PNG")  # some files of ImageNet that are called JPEG are PNG
MOST_PIXELS = 2**26  # of a file, 200 MB in memory
INTACT = "use the unchanged official file"
Box = tuple[int, int, int, int]  # left, top, right, bottom


@dataclass(frozen=True)
class Exactly:
    """Images that must have so many pixels on each side."""

    side: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image as it is."""
        if image.size != (self.side, self.side):
            raise ValueError(
                f"it must have {self.side} x {self.side} pixels, got "
                f"{image.width} x {image.height}"
            )
        return image.convert("RGB")


@dataclass(frozen=True)
class Centre:
    """The middle of images of any size, by Krizhevsky et al., 2012.

    Args:
        resize: pixels that the shorter side is brought to, by linear interpolation.
        side: pixels on each side of what is cut out of the middle.
    """

    resize: int
    side: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """The middle of the image."""
        short, long = sorted(image.size)
        other = int(self.resize * long / short)
        # A thin image of few pixels can have billions of them when it is resized.
        if self.resize * other > MOST_PIXELS:
            raise ValueError(
                f"at {self.resize} pixels on its shorter side it must have at most "
                f"{MOST_PIXELS:,} pixels, got {self.resize:,} x {other:,}"
            )
        tall = image.height >= image.width
        size = (self.resize, other) if tall else (other, self.resize)
        resized = image.convert("RGB").resize(size, _pillow().Resampling.BILINEAR)
        left, top = (round((each - self.side) / 2) for each in size)
        return resized.crop((left, top, left + self.side, top + self.side))


@dataclass(frozen=True)
class Cut:
    """A box of an image, brought to a size.

    Args:
        box: within the image.
        side: pixels on each side afterwards.
    """

    box: Box
    side: int

    def __call__(self, image: Image.Image) -> Image.Image:
        """The box of the image."""
        size = (self.side, self.side)
        return image.convert("RGB").crop(self.box).resize(
            size, _pillow().Resampling.BILINEAR
        )  # fmt: skip


Change = Exactly | Centre | Cut


def decoded(paths: Sequence[Path], changes: Iterable[Change]) -> Tensor:
    """Images of files, uint8 of shape (B, 3, H, W).

    Args:
        paths: B files, one at least.
        changes: how each is brought to its size, which all must share.

    Raises:
        DataError: a file that is no image, is damaged, or is too large.
    """
    with _without_warnings(), ThreadPoolExecutor() as pool:
        # Pillow lets go of the interpreter while it decodes.
        images = pool.map(_decoded, paths, changes)
        first = next(images)
        stack = np.empty((len(paths), *first.shape), np.uint8)
        stack[0] = first
        for place, image in enumerate(images, start=1):
            stack[place] = image
    return torch.from_numpy(stack).movedim(3, 1).contiguous()


def sizes_of(paths: Sequence[Path]) -> Tensor:
    """Rows and columns of images as they are in files, (B, 2), from their headers."""
    with _without_warnings(), ThreadPoolExecutor() as pool:
        return torch.tensor(list(pool.map(_size, paths)), dtype=torch.int64)


def _decoded(path: Path, change: Change) -> np.ndarray:
    with _opened(path) as image:
        try:
            return np.asarray(change(image))
        except Exception as error:  # a damaged file can fail in any way
            raise _refusal(path, error) from error


def _size(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        return image.height, image.width


def _pillow() -> ModuleType:
    """Pillow, which no other kind of data needs, imported when an image is read.

    Raises:
        DataError: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError:
        raise DataError(
            f"images in files need Pillow, which is not installed; {install('lab')}."
        ) from None
    return Image


def _opened(path: Path) -> Image.Image:
    """An image of which the header alone has been read."""
    try:
        image: Image.Image = _pillow().open(path, formats=FORMATS)
    except Exception as error:
        raise _refusal(path, error) from error
    # Before any pixel is decoded: a small file can promise any number of them.
    if image.width * image.height > MOST_PIXELS:
        image.close()
        raise DataError(
            f"{path} is refused: an image must have at most {MOST_PIXELS:,} pixels, "
            f"got {image.width:,} x {image.height:,}; {INTACT}."
        )
    return image


def _refusal(path: Path, error: Exception) -> DataError:
    reason = str(error).partition("\n")[0].rstrip(".").replace(repr(path), "it")
    return DataError(
        f"{path} is no readable image of JPEG or PNG "
        f"({reason or type(error).__name__}); {INTACT}."
    )


def _without_warnings() -> warnings.catch_warnings[None]:
    # Pillow warns of large images, which are refused here.
    return warnings.catch_warnings(
        action="ignore", category=_pillow().DecompressionBombWarning
    )
