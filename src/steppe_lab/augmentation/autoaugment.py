"""AutoAugment: one of 25 learnt pairs of operations for each image.

Source: Cubuk et al., 2019, arXiv:1805.09501: the sub-policies for CIFAR-10 of its
appendix, which serve CIFAR-100 too, and the ranges of magnitudes of Table 6, of which
there are ten at even distances, 0 to 9.

As in the implementations in use (torchvision's and that of P. Popien, DeepVoltaire),
a magnitude of a symmetric range gets a sign at random. The uncovered part of an image
is grey 128, as in the latter, and every map takes the nearest pixel, as in the former.
The authors' own program for CIFAR-10 divides ranges by 10, draws no sign for blends,
moves by at most 10 pixels, leaves 1 to 4 bits, and fills with the mean of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges
from steppe_lab.augmentation.abstract import (
    AUGMENTATIONS,
    AbstractAugmentation,
)
from steppe_lab.augmentation.operations import blends, levels
from steppe_lab.augmentation.operations.affine import (
    MATRICES,
    matrices,
    transformed,
)
from steppe_lab.transfer import sent

STEPS = 10  # magnitudes of an operation
# Magnitudes 0 and 9; a blend has the distance of its factor from 1. Maps come first.
SIGNED: Mapping[str, tuple[float, float]] = {
    "shear_x": (0.0, 0.3),
    "shear_y": (0.0, 0.3),
    "translate_x": (0.0, 150 / 331),
    "translate_y": (0.0, 150 / 331),
    "rotate": (0.0, 30.0),
    "contrast": (0.0, 0.9),
    "color": (0.0, 0.9),
    "brightness": (0.0, 0.9),
    "sharpness": (0.0, 0.9),
}
UNSIGNED: Mapping[str, tuple[float, float]] = {
    "solarize": (256.0, 0.0),
    "posterize": (8.0, 4.0),
    "auto_contrast": (0.0, 0.0),
    "equalize": (0.0, 0.0),
    "invert": (0.0, 0.0),
}
NAMES = (*SIGNED, *UNSIGNED)
CHANGES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {
    "contrast": lambda images, size: blends.contrast(images, 1 + size),
    "color": lambda images, size: blends.color(images, 1 + size),
    "brightness": lambda images, size: blends.brightness(images, 1 + size),
    "sharpness": lambda images, size: blends.sharpness(images, 1 + size),
    "solarize": levels.solarize,
    "posterize": levels.posterize,
    "auto_contrast": lambda images, _: levels.auto_contrast(images),
    "equalize": lambda images, _: levels.equalize(images),
    "invert": lambda images, _: ~images,
}
# Operation, probability and magnitude, twice.
POLICIES = (
    (("invert", 0.1, 7), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.5, 8), ("equalize", 0.9, 2)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 7), ("auto_contrast", 0.4, 8)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 3)),
    (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
    (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
    (("color", 0.9, 9), ("equalize", 0.6, 6)),
    (("auto_contrast", 0.8, 4), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("auto_contrast", 0.9, 3)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("auto_contrast", 0.9, 2), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 8), ("invert", 0.1, 3)),
    (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 1)),
)


def magnitude(name: str, step: int) -> float:
    """The size of a change without its sign, for a magnitude of 0 to 9."""
    first, last = {**SIGNED, **UNSIGNED}[name]
    value = first + (last - first) * step / (STEPS - 1)
    return float(round(value)) if name == "posterize" else value


@dataclass(frozen=True)
class Draws:
    """Operations on B images, on the host; the second follows on the first.

    Args:
        policy: place of the sub-policy, (B,).
        operation: place of the name in `NAMES`, -1 for none, (B, 2).
        magnitude: with its sign, float64, (B, 2).
    """

    policy: Tensor
    operation: Tensor
    magnitude: Tensor

    @classmethod
    def drawn(cls, images: int, generator: torch.Generator) -> Draws:
        """A sub-policy for each image, and which of its operations are applied."""
        names, chances, sizes = zip(
            *(op for pair in POLICIES for op in pair), strict=True
        )
        chance = torch.tensor(chances).view(-1, 2)
        places = torch.tensor([NAMES.index(name) for name in names]).view(-1, 2)
        size = torch.tensor(
            [magnitude(*each) for each in zip(names, sizes, strict=True)],
            dtype=torch.float64,
        ).view(-1, 2)
        policy = torch.randint(len(POLICIES), (images,), generator=generator)
        applied = torch.rand(images, 2, generator=generator) < chance[policy]
        sign = 2 * torch.randint(2, (images, 2), generator=generator) - 1
        place = places[policy]
        sign = sign.where(place < len(SIGNED), 1)
        return cls(policy, place.where(applied, -1), size[policy] * sign)


@AUGMENTATIONS.add("autoaugment", source="Cubuk et al., 2019, arXiv:1805.09501")
@dataclass(frozen=True, kw_only=True)
class AutoAugment(AbstractAugmentation):
    """One of the 25 sub-policies that were learnt on CIFAR-10 for each image.

    Args:
        fill: grey level of the part of an image that a map uncovers, 0 to 255.
    """

    bounds: ClassVar[Ranges] = {"fill": Range(0, 255, whole=True)}
    grey_levels: ClassVar[bool] = True

    fill: int = 128

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Change images, uint8 of shape (B, C, H, W) with 1 or 3 channels."""
        if images.shape[1] not in (1, 3):
            raise SettingError(
                "autoaugment needs images of 1 or 3 channels, got "
                f"{images.shape[1]}; leave it out."
            )
        draws = Draws.drawn(len(images), generator)
        for turn in range(2):
            images = self.applied(
                images, draws.operation[:, turn], draws.magnitude[:, turn]
            )
        return images

    def applied(self, images: Tensor, operation: Tensor, magnitude: Tensor) -> Tensor:
        """Images under an operation each, one group of images after the other.

        Args:
            images: uint8 of shape (B, C, H, W).
            operation: as in `Draws`, (B,).
            magnitude: as in `Draws`, (B,).
        """
        changed = images.clone()
        # Maps differ in their matrices alone, so all of them are one group.
        group = operation.where(operation >= len(MATRICES), operation.clamp(max=0))
        for first in sorted(set(group.tolist()) - {-1}):
            rows = (group == first).nonzero()[:, 0]
            there, size = sent(rows, images.device), magnitude[rows]
            some = images.index_select(0, there)
            if first == 0:
                maps = matrices(operation[rows], size, *images.shape[2:])
                changed[there] = transformed(some, maps, self.fill)
            else:
                changed[there] = CHANGES[NAMES[first]](some, size)
        return changed
