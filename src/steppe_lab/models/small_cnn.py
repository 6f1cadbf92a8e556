"""Small convolutional network: three convolutions and a linear head.

Source: LeCun et al., 1998, Gradient-based learning applied to document recognition;
the form of it that small studies use today: 3 x 3 convolutions, rectified linear units.
"""

from __future__ import annotations

from torch import nn

from steppe.registry.bounds import Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape
from steppe_lab.models.pooling import HalvingMaxPool

BOUNDS: Ranges = {"width": at_least(1)}


@MODELS.add("small_cnn", source="LeCun et al., 1998", bounds=BOUNDS)
def small_cnn(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 16,
    batch_norm: bool = False,
) -> nn.Module:
    """Three 3 x 3 convolutions, the first two followed by max-pooling; linear head.

    Args:
        in_shape: (channels, height, width), sides of at least 4 pixels.
        classes: number of outputs.
        width: channels of the first convolution; the next have 2 and 4 times as many.
        batch_norm: normalise each convolution over the batch before its activation.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    check_settings(BOUNDS, classes=classes, width=width)
    channels, rows, columns = image_shape("small_cnn", in_shape, least_side=4)
    # Two poolings halve each side, and drop what is odd.
    features = 4 * width * (rows // 4) * (columns // 4)
    return nn.Sequential(
        *_convolution(channels, width, batch_norm, pooled=True),
        *_convolution(width, 2 * width, batch_norm, pooled=True),
        *_convolution(2 * width, 4 * width, batch_norm, pooled=False),
        nn.Flatten(),
        nn.Linear(features, classes),
    )


def _convolution(
    channels: int, width: int, batch_norm: bool, *, pooled: bool
) -> list[nn.Module]:
    # Batch norm subtracts any bias before it, which would be a flat direction.
    layers: list[nn.Module] = [
        nn.Conv2d(channels, width, 3, padding=1, bias=not batch_norm)
    ]
    if batch_norm:
        layers.append(nn.BatchNorm2d(width))
    # The activation never decreases, so that it takes the same values and gradients
    # after the pooling, from a quarter of the pixels.
    if pooled:
        layers.append(HalvingMaxPool())
    return [*layers, nn.ReLU()]
