"""Random changes of training images by name, one draw for each image of a batch.

An augmentation is one module beside this one that adds a class to `AUGMENTATIONS`.
"""

from steppe.registry.packages import discover
from steppe_lab.augmentation.abstract import (
    AUGMENTATIONS,
    AbstractAugmentation,
    AugmentationSpec,
)

__all__ = ["AUGMENTATIONS", "AbstractAugmentation", "AugmentationSpec"]

discover(__name__)
