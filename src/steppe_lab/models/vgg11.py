"""VGG network of eight convolutions and three dense layers, for small images.

Source: Simonyan and Zisserman, 2015, arXiv:1409.1556, Table 1, column A, in the form of
Jastrzebski et al., 2019, arXiv:1807.05031: dense layers of 512 units, batch norm on the
input, the convolutions and the dense layers, dropout before the dense layers. Weights
start as Keras' do: Glorot and Bengio, 2010, Equation 16, and biases of 0.
"""

from __future__ import annotations

from torch import nn

from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape
from steppe_lab.models.pooling import HalvingMaxPool

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # channels, in widths
BOUNDS: Ranges = {
    "width": at_least(1),
    "hidden": at_least(1),
    "dropout": Range(0.0, 1.0, below=True),
}


@MODELS.add(
    "vgg11", source="Simonyan and Zisserman, 2015, arXiv:1409.1556", bounds=BOUNDS
)
def vgg11(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 64,
    hidden: int = 512,
    dropout: float = 0.5,
    batch_norm: bool = True,
) -> nn.Module:
    """Eight 3 x 3 convolutions with five poolings; two dense layers; linear head.

    Args:
        in_shape: (channels, height, width), sides of at least 32 pixels.
        classes: number of outputs.
        width: channels of the first convolution; the last have 8 times as many.
        hidden: units of each dense layer.
        dropout: share of the features that is dropped before each dense layer.
        batch_norm: normalise the input, each convolution and each dense layer over the
            batch. All have biases, with it too.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    numbers = {"width": width, "hidden": hidden, "dropout": dropout}
    check_settings(BOUNDS, classes=classes, **numbers)
    channels, rows, columns = image_shape("vgg11", in_shape, least_side=32)
    layers: list[nn.Module] = [nn.BatchNorm2d(channels)] if batch_norm else []
    for stage in STAGES:
        for multiple in stage:
            outputs = multiple * width
            layers.append(nn.Conv2d(channels, outputs, 3, padding=1))
            layers += [nn.BatchNorm2d(outputs)] if batch_norm else []
            layers.append(nn.ReLU())
            channels = outputs
        layers.append(HalvingMaxPool())
    features = channels * (rows // 32) * (columns // 32)
    layers.append(nn.Flatten())
    for inputs in (features, hidden):
        layers += [nn.Dropout(dropout), nn.Linear(inputs, hidden)]
        layers += [nn.BatchNorm1d(hidden)] if batch_norm else []
        layers.append(nn.ReLU())
    model = nn.Sequential(*layers, nn.Linear(hidden, classes))
    for layer in model:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    return model
