"""Convolutional network without normalisation: four convolutions, two dense layers.

Source: the SimpleCNN of Jastrzebski et al., 2019, arXiv:1807.05031; the example of the
Keras library for CIFAR-10 without its dropout. Its weights start as Keras' do: Glorot
and Bengio, 2010, Equation 16, and biases of 0.
"""

from __future__ import annotations

from torch import nn

from steppe.registry.bounds import Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape
from steppe_lab.models.pooling import HalvingMaxPool

BOUNDS: Ranges = {"width": at_least(1), "kernel": at_least(1), "hidden": at_least(1)}


@MODELS.add(
    "simple_cnn", source="Jastrzebski et al., 2019, arXiv:1807.05031", bounds=BOUNDS
)
def simple_cnn(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 32,
    kernel: int = 3,
    hidden: int = 128,
) -> nn.Module:
    """Two pairs of convolutions, each with max-pooling; a dense layer; linear head.

    The first convolution of a pair keeps the size, the second one has no padding. The
    published small network is the default, the medium one is width=100, kernel=5.

    Args:
        in_shape: (channels, height, width), sides of at least 10 pixels for kernel 3.
        classes: number of outputs.
        width: channels of the first pair; the second has twice as many.
        kernel: sides of the convolutions, in pixels.
        hidden: units of the dense layer.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    check_settings(BOUNDS, classes=classes, width=width, kernel=kernel, hidden=hidden)
    least = 3 * kernel + 1  # leaves one pixel
    channels, rows, columns = image_shape("simple_cnn", in_shape, least_side=least)
    area = _left(_left(rows, kernel), kernel) * _left(_left(columns, kernel), kernel)
    model = nn.Sequential(
        *_pair(channels, width, kernel),
        *_pair(width, 2 * width, kernel),
        nn.Flatten(),
        nn.Linear(2 * width * area, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
        else:
            nn.init.zeros_(parameter)
    return model


def _pair(channels: int, width: int, kernel: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, width, kernel, padding="same"),
        nn.ReLU(),
        nn.Conv2d(width, width, kernel),
        nn.ReLU(),
        HalvingMaxPool(),
    ]


def _left(side: int, kernel: int) -> int:
    """Pixels that a pair leaves of a side."""
    return (side - kernel + 1) // 2
