"""Random crop and mirror image, the usual augmentation of small photographs.

Source: Lee et al., 2015, Deeply-supervised nets, arXiv:1409.5185, as in He et al.,
2016, arXiv:1512.03385, Section 4.2: four pixels are padded on each side, a crop of the
size of the image is drawn from the padded image or its mirror image. Padding is black.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.registry.bounds import Ranges, at_least
from steppe_lab.augmentation.abstract import AUGMENTATIONS, AbstractAugmentation
from steppe_lab.augmentation.shifting import Shifts, shifted


@AUGMENTATIONS.add("basic", source="Lee et al., 2015, arXiv:1409.5185")
@dataclass(frozen=True, kw_only=True)
class Basic(AbstractAugmentation):
    """Random crop of the padded image, and its mirror image half of the time.

    Args:
        padding: black pixels on each side that the crop is drawn from.
    """

    bounds: ClassVar[Ranges] = {"padding": at_least(0)}

    padding: int = 4

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Crop and mirror images, shape (B, C, H, W)."""
        most, side = self.padding, min(images.shape[2:])
        if most >= side:
            raise SettingError(
                f"padding must be below the {side} pixels of a side, got {most}."
            )
        shifts = Shifts.drawn(len(images), most, most, generator)
        return shifted(images, shifts, "zero")
