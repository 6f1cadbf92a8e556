"""Residual network of 32 layers that activates before it convolves.

Source: He, Zhang, Ren and Sun, 2016, Identity mappings in deep residual networks,
arXiv:1603.05027, in the form without normalisation of Jastrzebski et al., 2019,
arXiv:1807.05031: small initial weights, biases, 1 x 1 convolutions as the shortcuts
that change shape. Difference: weights are normal; Keras cuts off their tails.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from steppe.registry.bounds import POSITIVE, Ranges, at_least
from steppe_lab.models.initial_weights import he_normal
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape

BLOCKS = 5  # a stage
Normalisation = Literal["none", "batch"]


class _Block(nn.Module):
    """shortcut(x) + conv(relu(norm(conv(relu(norm(x))))))."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.first_norm = _normalisation(inputs, norm)
        self.first = nn.Conv2d(inputs, outputs, 3, stride, padding=1)
        self.second_norm = _normalisation(outputs, norm)
        self.second = nn.Conv2d(outputs, outputs, 3, padding=1)
        same = stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        residual = self.first(F.relu(self.first_norm(x)))
        residual = self.second(F.relu(self.second_norm(residual)))
        total: Tensor = self.shortcut(x) + residual
        return total


class _ResNet32(nn.Module):
    def __init__(self, channels: int, classes: int, width: int, norm: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, width, 3, padding=1)
        blocks, inputs = [], width
        for stage in range(3):
            outputs = width * 2**stage
            for number in range(BLOCKS):
                stride = 2 if stage > 0 and number == 0 else 1
                blocks.append(_Block(inputs, outputs, stride, norm))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.norm = _normalisation(inputs, norm)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.norm(self.blocks(self.stem(x))))
        scores: Tensor = self.head(features.mean(dim=(2, 3)))
        return scores


BOUNDS: Ranges = {"width": at_least(1), "init_scale": POSITIVE}


@MODELS.add(
    "resnet32", source="Jastrzebski et al., 2019, arXiv:1807.05031", bounds=BOUNDS
)
def resnet32(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    normalisation: Normalisation = "none",
    width: int = 16,
    init_scale: float = 1 / 32,
) -> nn.Module:
    """Residual network of 32 layers with pre-activation and without normalisation.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        normalisation: none, or batch: over the batch, before each activation.
        width: channels of the first stage; the others have 2 and 4 times as many.
        init_scale: factor on the variance of the initial weights of convolutions, over
            that of He et al., 2015. Published too: 1/64 and 1/15; 1 is usual with
            batch norm.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    check_settings(BOUNDS, classes=classes, width=width, init_scale=init_scale)
    channels, _, _ = image_shape("resnet32", in_shape, least_side=1)
    model = _ResNet32(channels, classes, width, normalisation == "batch")
    he_normal(model, "fan_in", variance=init_scale)
    nn.init.xavier_uniform_(model.head.weight)
    return model


def _normalisation(channels: int, norm: bool) -> nn.Module:
    return nn.BatchNorm2d(channels) if norm else nn.Identity()
