"""Augmentations: the base class, the facts about them, and the registry.

Shape letters: B images in a batch, C channels, H rows, W columns.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import ClassVar

import torch
from torch import Tensor

from steppe.registry.bounds import Ranges, check_bounds
from steppe.registry.registry import Registry
from steppe.registry.specs import OF_THE_CLASS, Spec


@dataclasses.dataclass(frozen=True, kw_only=True)
class AugmentationSpec(Spec):
    """Facts about an augmentation."""

    # changes inputs as the model takes them, and not pixels as published
    standardised: bool = dataclasses.field(default=False, metadata=OF_THE_CLASS)
    # takes grey levels alone: uint8 from 0 to 255
    grey_levels: bool = dataclasses.field(default=False, metadata=OF_THE_CLASS)


AUGMENTATIONS = Registry("augmentation", AugmentationSpec)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AbstractAugmentation(abc.ABC):
    """Settings of an augmentation; calling it on images changes each at random.

    The result depends on the images and the generator alone, and that of one image on
    no other: draws are made on the host, the same for every device.
    """

    bounds: ClassVar[Ranges] = {}  # of the settings that are numbers
    standardised: ClassVar[bool] = False  # these two: see `AugmentationSpec`
    grey_levels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_bounds(dataclasses.asdict(self), self.bounds)

    @abc.abstractmethod
    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Changed images, of the same shape, type and device.

        Args:
            images: shape (B, C, H, W), pixels as published or, where the class says
                so, standardised inputs; they are not written to.
            generator: of the draws, on the host.

        Raises:
            SettingError: settings that do not go with such images.
        """
