"""Shift by a share of the side and mirror image, as Keras generators of images do.

Source: Jastrzebski et al., 2019, arXiv:1807.05031, whose networks see images that are
shifted by at most an eighth and mirrored (Keras: width_shift_range, height_shift_range,
horizontal_flip, borders filled with the nearest pixel). Shifts are by whole pixels
here, where Keras draws any number and interpolates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.registry.bounds import Range, Ranges
from steppe_lab.augmentation.abstract import AUGMENTATIONS, AbstractAugmentation
from steppe_lab.augmentation.shifting import Shifts, shifted


@AUGMENTATIONS.add("shift_flip", source="Jastrzebski et al., 2019, arXiv:1807.05031")
@dataclass(frozen=True, kw_only=True)
class ShiftFlip(AbstractAugmentation):
    """Shift by whole pixels, and the mirror image half of the time.

    Args:
        shift: at most this share of the height and of the width, 0 to 1, 1 left out.
    """

    bounds: ClassVar[Ranges] = {"shift": Range(0.0, 1.0, below=True)}

    shift: float = 0.125

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Shift and mirror images, shape (B, C, H, W)."""
        down, right = (int(self.shift * side) for side in images.shape[2:])
        shifts = Shifts.drawn(len(images), down, right, generator)
        return shifted(images, shifts, "nearest")
