"""Random part of each image, brought to its size, the augmentation for ImageNet.

Source: Szegedy et al., 2015, Going deeper with convolutions, arXiv:1409.4842, Section
6, as torchvision's RandomResizedCrop draws it: ten tries, then the middle.

Shape letters: B images in a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from steppe.registry.bounds import Range, Ranges
from steppe_lab.augmentation.abstract import AUGMENTATIONS, AbstractAugmentation
from steppe_lab.transfer import sent

TRIES = 10


@AUGMENTATIONS.add("resized_crop", source="Szegedy et al., 2015, arXiv:1409.4842")
@dataclass(frozen=True, kw_only=True)
class ResizedCrop(AbstractAugmentation):
    """Random part of the image at its old size, mirrored half of the time.

    Of images in files, such as those of ImageNet, the part is one of the whole image as
    it is in the file; it is brought to the size of an input once.

    Args:
        min_area: least share of the area that a part has.
        max_ratio: largest ratio of the longer to the shorter side of a part.
    """

    bounds: ClassVar[Ranges] = {
        "min_area": Range(0.0, 1.0, above=True),
        "max_ratio": Range(1.0),
    }

    min_area: float = 0.08
    max_ratio: float = 4 / 3

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Parts of images, shape (B, C, H, W)."""
        sizes = torch.tensor(images.shape[2:]).expand(len(images), 2)
        return self.parts(sizes, lambda boxes: _resized(images, boxes), generator)

    def parts(
        self, sizes: Tensor, cut: Callable[[Tensor], Tensor], generator: torch.Generator
    ) -> Tensor:
        """Parts of images that are somewhere else, shape (B, C, H, W).

        Args:
            sizes: rows and columns of each image, (B, 2).
            cut: takes the top, left, height and width of a part of each image, (B, 4),
                and returns these at the size of an input.
            generator: of the draws, on the host.
        """
        boxes = self._boxes(sizes, generator)
        mirrored = torch.randint(2, (len(sizes),), generator=generator) == 1
        images = cut(boxes)
        where = sent(mirrored.view(-1, 1, 1, 1), images.device)
        return torch.where(where, images.flip(3), images)

    def _boxes(self, sizes: Tensor, generator: torch.Generator) -> Tensor:
        """Top, left, height and width of a random part of each image, (B, 4)."""
        areas, ratios, *places = torch.rand(
            4, len(sizes), TRIES, generator=generator, dtype=torch.float64
        )
        pixels = sizes.prod(1, keepdim=True)
        area = pixels * (self.min_area + (1 - self.min_area) * areas)
        ratio = torch.exp((2 * ratios - 1) * math.log(self.max_ratio))  # width / height
        sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=2)
        sides = sides.round().long().clamp(min=1)
        fits = (sides <= sizes[:, None]).all(2)
        first = fits.int().argmax(1)
        rows = torch.arange(len(sizes))
        chosen = torch.where(
            fits.any(1)[:, None], sides[rows, first], self._largest(sizes)
        )
        free = sizes - chosen
        at = torch.stack(places, dim=2)[rows, first]
        corners = torch.where(fits.any(1)[:, None], (at * (free + 1)).long(), free // 2)
        return torch.cat([corners, chosen], dim=1)

    def _largest(self, sizes: Tensor) -> Tensor:
        """Largest part whose sides are within the ratio, (B, 2)."""
        most = (sizes.flip(1) * self.max_ratio).round().long()
        return sizes.minimum(most)


def _resized(images: Tensor, boxes: Tensor) -> Tensor:
    size = images.shape[2:]
    parts = [
        F.interpolate(
            image[None, :, top : top + height, left : left + width].float(),
            size,
            mode="bilinear",
            antialias=True,
        )
        for image, (top, left, height, width) in zip(
            images, boxes.tolist(), strict=True
        )
    ]
    resized = torch.cat(parts)
    if images.is_floating_point():
        return resized.to(images.dtype)
    return resized.round().clamp(0, 255).to(images.dtype)
