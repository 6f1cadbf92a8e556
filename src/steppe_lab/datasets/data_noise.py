"""Data noise: Gaussian noise on pixels from 0 to 1, before they are standardised.

As in Bisla, Wang and Choromanska, 2022 (Low-pass filtering SGD): the noise of a sample
is drawn once and stays the same in all epochs, pixels may leave the range, and samples
that networks are judged on are clean.

Shape letters: N samples, C channels, H rows, W columns.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from steppe.errors import SettingError
from steppe.seeds import seed_named
from steppe_lab.datasets.samples import AbstractSamples, TensorSamples


def with_noise(
    samples: AbstractSamples, places: Tensor, *, std: float, seed: int
) -> AbstractSamples:
    """Images with noise on every pixel, stored in float32.

    A sample has the same draw at every std, times the std, in every subset that it is
    in, and on every machine.

    Args:
        samples: images, pixels of shape (N, C, H, W) with their standardisation.
        places: of the samples in the pool, shape (N,).
        std: of the noise, where pixels go from 0 to 1; 0 gives the samples back.
        seed: of the draws.

    Raises:
        SettingError: samples that are no images.
    """
    if std == 0:
        return samples
    if (
        not isinstance(samples, TensorSamples)
        or samples.stored.dim() != 4
        or samples.standardisation is None
    ):
        raise SettingError(
            "data_noise is for images in memory whose pixels have a known largest "
            f"value, got samples of shape {samples.in_shape}; leave it out."
        )
    largest = samples.standardisation.scale
    noisy = samples.stored.to(torch.float32, copy=True)
    own, amount = seed_named(f"data noise {seed}"), np.float32(std * largest)
    for pixels, place in zip(noisy.numpy(), places.tolist(), strict=True):
        # Those of torch differ in their last bits from one processor to another.
        draws = np.random.default_rng((own, place))
        pixels += amount * draws.standard_normal(pixels.shape, dtype=np.float32)
    return replace(samples, stored=noisy)
