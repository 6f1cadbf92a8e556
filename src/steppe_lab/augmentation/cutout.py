"""Cutout: a square of each image becomes the mean of the data.

Source: DeVries and Taylor, 2017, arXiv:1708.04552, Section 3.2: the centre is any
pixel, so that parts of the square may lie outside; sides of 16 on CIFAR-10 and of 8 on
CIFAR-100. They cut every image; half of the images are cut here by default, as in
widespread training scripts for SAM and GSAM in PyTorch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.registry.bounds import Ranges, at_least
from steppe_lab.augmentation.abstract import (
    AUGMENTATIONS,
    AbstractAugmentation,
)
from steppe_lab.transfer import sent


@AUGMENTATIONS.add("cutout", source="DeVries and Taylor, 2017, arXiv:1708.04552")
@dataclass(frozen=True, kw_only=True)
class Cutout(AbstractAugmentation):
    """A square around any pixel becomes 0, after standardising.

    Args:
        size: side of the square, in pixels.
        p: share of the images that are cut, 0 to 1.
    """

    bounds: ClassVar[Ranges] = {"size": at_least(1), "p": (0.0, 1.0)}
    standardised: ClassVar[bool] = True

    size: int = 16
    p: float = 0.5

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Cut images, shape (B, C, H, W)."""
        count, _, rows, columns = images.shape
        cut = torch.rand(count, generator=generator) < self.p
        within = [
            self._within(torch.randint(side, (count,), generator=generator), side)
            for side in (rows, columns)
        ]
        square = within[0][:, :, None] & within[1][:, None, :] & cut[:, None, None]
        return images.masked_fill(sent(square[:, None], images.device), 0)

    def _within(self, centre: Tensor, side: int) -> Tensor:
        """Rows or columns of the square around each centre, (B, side)."""
        # A square with an even side has one pixel more before its centre than after.
        distance = torch.arange(side) - (centre - self.size // 2)[:, None]
        return (distance >= 0) & (distance < self.size)
