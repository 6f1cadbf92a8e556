"""Convolutional network for digits: two convolutions, one pooling, two dense layers.

Source: LeCun et al., 1998, Gradient-based learning applied to document recognition, in
the form of the MNIST example of PyTorch, which LPF-SGD trains on MNIST (Bisla, Wang and
Choromanska, 2022, arXiv:2201.08025). Differences from LeNet-5: 3 x 3 convolutions of 32
and 64 channels, rectified linear units, dropout.
"""

from __future__ import annotations

from torch import nn

from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape
from steppe_lab.models.pooling import HalvingMaxPool

SHARE = Range(0.0, 1.0, below=True)
BOUNDS: Ranges = {"hidden": at_least(1), "dropout": SHARE, "dense_dropout": SHARE}


@MODELS.add("lenet", source="LeCun et al., 1998; arXiv:2201.08025", bounds=BOUNDS)
def lenet(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: int = 128,
    dropout: float = 0.25,
    dense_dropout: float = 0.5,
) -> nn.Module:
    """Two 3 x 3 convolutions, max-pooling and two dense layers.

    Args:
        in_shape: (channels, height, width), sides of at least 6 pixels.
        classes: number of outputs.
        hidden: units of the dense layer.
        dropout: share of the features that is dropped after the pooling.
        dense_dropout: share of the units of the dense layer that is dropped.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    shares = {"dropout": dropout, "dense_dropout": dense_dropout}
    check_settings(BOUNDS, classes=classes, hidden=hidden, **shares)
    channels, rows, columns = image_shape("lenet", in_shape, least_side=6)
    # Two convolutions without padding take off 2 pixels each.
    features = 64 * ((rows - 4) // 2) * ((columns - 4) // 2)
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        HalvingMaxPool(),
        nn.Dropout(dropout),
        nn.Flatten(),
        nn.Linear(features, hidden),
        nn.ReLU(),
        nn.Dropout(dense_dropout),
        nn.Linear(hidden, classes),
    )
