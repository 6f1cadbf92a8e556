"""How the pixels of images become the inputs of a model.

The statistics are those of the training pool, never of test images. Shape letters: N
images, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from steppe_lab.datasets.samples import CHUNK, Numbers, Standardisation

Standardise = Literal["channel", "computed", "image_std", "pixel", "unit"]


@dataclass(frozen=True, kw_only=True)
class ChannelStatistics:
    """Published statistics of the channels of a data set, pixels from 0 to 1."""

    mean: Numbers  # (C,)
    std: Numbers  # (C,), of all pixels
    image_std: Numbers | None = None  # (C,), mean of the deviations within each image


def standardisation_of(
    pixels: Tensor,
    kind: Standardise,
    published: ChannelStatistics,
    *,
    scale: int = 255,
) -> Standardisation:
    """Standardisation of a data set.

    Args:
        pixels: of the training pool, uint8 of shape (N, C, H, W).
        kind: channel: mean and standard deviation of each channel as published.
            computed: those of the pixels at hand. image_std: the same means, and the
            mean over images of the deviation within each image, which is smaller and
            which many programs use for CIFAR-10 (.2023, .1994, .2010). pixel: the mean
            of each pixel, and one standard deviation of all of them. unit: pixels from
            0 to 1 as they are.
        published: statistics of the whole data set.
        scale: the largest value that a pixel can have.
    """
    channels = pixels.shape[1]
    mean: Numbers | Tensor = published.mean
    std = published.std
    if kind == "unit":
        mean, std = (0.0,) * channels, (1.0,) * channels
    elif kind == "computed":
        mean, std = _moments(pixels, scale)
    elif kind == "image_std":
        std = published.image_std or _image_std(pixels, scale)
    elif kind == "pixel":
        _, common = _moments(pixels.reshape(len(pixels), 1, -1), scale)
        mean, std = (_mean_image(pixels) / scale).float(), common * channels
    return Standardisation(mean=mean, std=std, scale=scale)


def _moments(pixels: Tensor, scale: int) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation of each channel."""
    levels = torch.arange(256, dtype=torch.float64) / scale
    means, deviations = [], []
    for channel in pixels.unbind(1):
        # Counted and not summed, so that the moments of any number of pixels are exact.
        counts = torch.bincount(channel.flatten(), minlength=256)
        mean = (counts * levels).sum() / counts.sum()
        variance = (counts * (levels - mean) ** 2).sum() / (counts.sum() - 1)
        means.append(mean.item())
        deviations.append(variance.sqrt().item())
    return tuple(means), tuple(deviations)


def _image_std(pixels: Tensor, scale: int) -> Numbers:
    """Mean over images of the standard deviation within each, by channel."""
    # In chunks: the pixels of a data set are several GB in float64.
    parts = [
        pixels[start : start + CHUNK].flatten(2).double().std(2)
        for start in range(0, len(pixels), CHUNK)
    ]
    return tuple((torch.cat(parts).mean(0) / scale).tolist())


def _mean_image(pixels: Tensor) -> Tensor:
    """Mean of each pixel over the images, (C, H, W) float64."""
    return pixels.sum(0, dtype=torch.int64).double() / len(pixels)
