"""Batches of training images that augmentations change at random.

The draws of a batch follow from the seed, the step and the name of the augmentation
alone: they are the same after a stop, on every device, for all optimizers, and for one
augmentation whatever others stand beside it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from steppe.errors import SettingError, SteppeError
from steppe.registry.registry import Choice, is_code, one_line
from steppe.seeds import seed_named, stream
from steppe_lab.augmentation import AUGMENTATIONS, AbstractAugmentation
from steppe_lab.augmentation.resized_crop import ResizedCrop
from steppe_lab.datasets.image_files import ImageFiles
from steppe_lab.datasets.samples import AbstractSamples, Batch, TensorSamples
from steppe_lab.training.settings import parted
from steppe_lab.transfer import sent

CHANGE = (
    "an augmentation is a class made from steppe_lab.augmentation.AbstractAugmentation"
)


def read_augmentations(value: Any) -> tuple[Choice, ...]:
    """Augmentations in their order, by text or by records.

    Example:
        >>> [str(each) for each in read_augmentations("basic+cutout:size=8")]
        ['basic:padding=4', 'cutout:size=8,p=0.5']

    Raises:
        UnknownNameError: no such augmentation.
        SettingError: a setting unknown or of the wrong type, an augmentation twice, or
            something of another form.
    """
    if isinstance(value, str):
        value = parted(value) if value else ()
    if not isinstance(value, Sequence):
        raise SettingError(
            f"augment must be names with plus signs between them, got {value!r}; write "
            "it as basic+cutout."
        )
    choices = tuple(_choice(each) for each in value)
    names = [choice.name for choice in choices]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise SettingError(
            f"augment names {twice[0]} twice; name every augmentation once."
        )
    return choices


def _choice(value: Any) -> Choice:
    if isinstance(value, Choice):
        return AUGMENTATIONS.choose(value.name, value.settings)
    if isinstance(value, Mapping):
        return AUGMENTATIONS.choose(value["name"], value["settings"])
    return AUGMENTATIONS.parse(str(value))


def build_augmentations(choices: Iterable[Choice]) -> dict[str, AbstractAugmentation]:
    """Augmentations by name, those of pixels before those of standardised inputs.

    Raises:
        SettingError: a setting out of its range, another order, or code of the user
            that fails or is no augmentation.
    """
    built = {choice.name: _built(choice) for choice in choices}
    after = [name for name, each in built.items() if each.standardised]
    if list(built)[len(built) - len(after) :] != after:
        raise SettingError(
            f"augment must name {' and '.join(after)} last, which changes standardised "
            f"inputs, got {'+'.join(built)}."
        )
    return built


def _built(choice: Choice) -> AbstractAugmentation:
    try:
        built = AUGMENTATIONS.build(choice)
    except (Exception, SystemExit) as error:
        if isinstance(error, SteppeError) or not is_code(choice.name):
            raise
        raise SettingError(
            f"augmentation {choice.name} failed ({one_line(error)}); {CHANGE}."
        ) from error
    if not isinstance(built, AbstractAugmentation):
        raise SettingError(
            f"augmentation {choice.name} must be an AbstractAugmentation, got "
            f"{type(built).__name__}; {CHANGE}."
        )
    return built


class AugmentedBatches:
    """Samples as batches whose images are changed.

    Args:
        choices: the augmentations, in their order.
        samples: images to choose from.
        seed: of the draws.
        device: where the images are changed, and where the batches are.

    Raises:
        SettingError: samples that are no images, or none that can be changed so.
    """

    def __init__(
        self,
        choices: Iterable[Choice],
        samples: AbstractSamples,
        *,
        seed: int,
        device: str | torch.device,
    ) -> None:
        self._changes = build_augmentations(choices)
        self._samples = _images(samples, self._changes)
        self._of_files = _of_files(self._samples, self._changes)
        self._device = torch.device(device)
        self._seeds = {
            name: seed_named(f"augmentation {name} {seed}") for name in self._changes
        }
        self._standardise = self._samples.standardisation
        self._check()

    def fetch(self, rows: Tensor, step: int) -> Batch:
        """The samples at some positions for a step, (B, ...) and targets (B, ...)."""
        images, targets = self._rows(rows, step)
        images, targets = sent(images, self._device), sent(targets, self._device)
        images = self._changed(images, step, standardised=False)
        if self._standardise is not None:
            images = self._standardise(images)
        return self._changed(images, step, standardised=True), targets

    def _rows(self, rows: Tensor, step: int) -> tuple[Tensor, Tensor]:
        samples = self._samples
        if isinstance(samples, ImageFiles):
            for name, change in self._of_files.items():
                cut = functools.partial(samples.cut, rows)
                generator = stream(self._seeds[name], step)
                parts = change.parts(samples.sizes(rows), cut, generator)
                return parts, samples.targets[rows]
        return samples.rows(rows)

    def _changed(self, images: Tensor, step: int, *, standardised: bool) -> Tensor:
        for name, change in self._changes.items():
            if change.standardised is standardised and name not in self._of_files:
                images = change(images, stream(self._seeds[name], step))
        return images

    def _check(self) -> None:
        """Change two images, so that mistakes show before any work."""
        names = "+".join(self._changes)
        rows = torch.arange(min(2, len(self._samples)))
        try:
            inputs, _ = self.fetch(rows, 0)
        except Exception as error:
            if isinstance(error, SteppeError) or not any(map(is_code, self._changes)):
                raise
            raise SettingError(
                f"augmentation {names} failed ({one_line(error)}); {CHANGE}."
            ) from error
        clean, _ = self._samples.batch(rows)
        if inputs.shape != clean.shape or inputs.dtype != clean.dtype:
            raise SettingError(
                f"augmentation {names} must give inputs of {clean.dtype} and shape "
                f"{tuple(clean.shape)}, got {inputs.dtype} of {tuple(inputs.shape)}."
            )


def _of_files(
    samples: TensorSamples | ImageFiles, changes: Mapping[str, AbstractAugmentation]
) -> dict[str, ResizedCrop]:
    """The change that is made while an image is decoded, if there is one.

    Raises:
        SettingError: it is not the first.
    """
    crops = {name: c for name, c in changes.items() if isinstance(c, ResizedCrop)}
    if isinstance(samples, TensorSamples) or not crops:
        return {}
    (name,) = crops
    if next(iter(changes)) != name:
        raise SettingError(
            f"augment must name {name} first for images in files, which are cut as "
            f"they are decoded, got {'+'.join(changes)}."
        )
    return crops


def _images(
    samples: AbstractSamples, changes: Mapping[str, AbstractAugmentation]
) -> TensorSamples | ImageFiles:
    """The samples, if they are images that can be changed."""
    if isinstance(samples, ImageFiles):
        return samples
    if not isinstance(samples, TensorSamples) or samples.stored.dim() != 4:
        raise SettingError(
            "augment needs images of shape (channels, height, width), got samples of "
            f"shape {samples.in_shape}; leave it out."
        )
    largest = samples.standardisation.scale if samples.standardisation else 255
    levels = samples.stored.dtype == torch.uint8 and largest == 255
    for name, change in changes.items():
        if change.grey_levels and not levels:
            raise SettingError(
                f"{name} needs grey levels of uint8 from 0 to 255, got "
                f"{samples.stored.dtype} up to {largest:g}; leave it out."
            )
    return samples
