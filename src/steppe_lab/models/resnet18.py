"""ResNet-18 for small images: 3 x 3 stem, no pooling after it, eight residual blocks.

Source: He, Zhang, Ren and Sun, 2016, Deep residual learning for image recognition,
arXiv:1512.03385, Table 1 (18-layer) with the stem of Section 4.2 (CIFAR-10).
Differences: shortcuts that change shape are 1 x 1 convolutions (option B) here as in
Table 1, where Section 4.2 pads with zeros.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from steppe.registry.bounds import Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape


class _Block(nn.Module):
    """relu(shortcut(x) + norm(conv(relu(norm(conv(x))))))."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: bool) -> None:
        super().__init__()
        self.first = _convolution(inputs, outputs, 3, stride, norm)
        self.second = _convolution(outputs, outputs, 3, 1, norm)
        same = inputs == outputs and stride == 1
        self.shortcut = (
            nn.Identity() if same else _convolution(inputs, outputs, 1, stride, norm)
        )

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second(F.relu(self.first(x)))
        # The activation comes after the sum, as in the first paper.
        return F.relu(self.shortcut(x) + residual)


class _ResNet(nn.Module):
    def __init__(self, channels: int, classes: int, width: int, norm: bool) -> None:
        super().__init__()
        self.stem = _convolution(channels, width, 3, 1, norm)
        blocks, inputs = [], width
        for stage in range(4):
            outputs = width * 2**stage
            # Images are small: the first stage keeps the size that the stem gives.
            for stride in (1 if stage == 0 else 2, 1):
                blocks.append(_Block(inputs, outputs, stride, norm))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = self.blocks(F.relu(self.stem(x)))
        scores: Tensor = self.head(features.mean(dim=(2, 3)))
        return scores


BOUNDS: Ranges = {"width": at_least(1)}


@MODELS.add("resnet18", source="He et al., 2016, arXiv:1512.03385", bounds=BOUNDS)
def resnet18(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 64,
    batch_norm: bool = True,
) -> nn.Module:
    """Residual network of 18 layers in the form for small images.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        batch_norm: normalise each convolution over the batch; otherwise it has a bias.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    check_settings(BOUNDS, classes=classes, width=width)
    channels, _, _ = image_shape("resnet18", in_shape, least_side=1)
    return _ResNet(channels, classes, width, batch_norm)


def _convolution(
    inputs: int, outputs: int, side: int, stride: int, norm: bool
) -> nn.Module:
    padding = side // 2
    # Batch norm subtracts any bias before it, which would be a flat direction.
    convolution = nn.Conv2d(inputs, outputs, side, stride, padding, bias=not norm)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    if not norm:
        return convolution
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))
