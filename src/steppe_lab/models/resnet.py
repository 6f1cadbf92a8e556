"""Residual networks of 18, 50 and 101 layers, for small images and for ImageNet.

Source: He, Zhang, Ren and Sun, 2016, Deep residual learning for image recognition,
arXiv:1512.03385, Table 1, with the stem of Section 4.2 (CIFAR-10) for small images.
Differences: shortcuts that change shape are 1 x 1 convolutions (option B) for small
images too, where Section 4.2 pads with zeros. A bottleneck has its stride in the 3 x 3
convolution, as most programs have it since, where the paper has it in the first one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict, Unpack

from torch import Tensor, nn
from torch.nn import functional as F

from steppe.registry.bounds import Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape

Stem = Literal["small", "imagenet"]
SOURCE = "He et al., 2016, arXiv:1512.03385"


class Variations(TypedDict, total=False):
    """Settings that a text leaves out for the usual network.

    They are no part of a choice that does not say them, so that the ids of runs that
    were stored before there were any stay.
    """

    skip: bool
    bias: bool
    stem: Stem
    blocks: int


@dataclass(frozen=True)
class _Layers:
    """Convolutions of a network, each with its batch norm where there is one."""

    norm: bool
    bias: bool

    def convolution(
        self, inputs: int, outputs: int, side: int, stride: int = 1
    ) -> nn.Module:
        layer = nn.Conv2d(inputs, outputs, side, stride, side // 2, bias=self.bias)
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if not self.norm:
            return layer
        return nn.Sequential(layer, nn.BatchNorm2d(outputs))


class _Block(nn.Module):
    """relu(shortcut(x) + branch(x)), the branch of convolutions with relu between."""

    third: nn.Module | None
    shortcut: nn.Module | None

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        third: nn.Module | None,
        shortcut: nn.Module | None,
    ) -> None:
        super().__init__()
        self.first, self.second, self.third = first, second, third
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        residual = self.second(F.relu(self.first(x)))
        if self.third is not None:
            residual = self.third(F.relu(residual))
        if self.shortcut is not None:
            residual = self.shortcut(x) + residual
        # The activation comes after the sum, as in the first paper.
        return F.relu(residual)


class _ResNet(nn.Module):
    def __init__(
        self,
        sizes: tuple[int, int],
        width: int,
        stages: tuple[int, int, int, int],
        layers: _Layers,
        *,
        bottleneck: bool,
        skip: bool,
        stem: Stem,
    ) -> None:
        super().__init__()
        channels, classes = sizes
        self.pools = stem == "imagenet"
        side, stride = (7, 2) if self.pools else (3, 1)
        self.stem = layers.convolution(channels, width, side, stride)
        make = _bottleneck if bottleneck else _basic
        blocks, inputs = [], width
        for stage, depth in enumerate(stages):
            for number in range(depth):
                # The first stage keeps the size that the stem gives.
                stride = 2 if stage > 0 and number == 0 else 1
                block, inputs = make(layers, inputs, width * 2**stage, stride, skip)
                blocks.append(block)
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        if self.pools:
            x = F.max_pool2d(x, 3, stride=2, padding=1)
        scores: Tensor = self.head(self.blocks(x).mean(dim=(2, 3)))
        return scores


def _basic(
    layers: _Layers, inputs: int, width: int, stride: int, skip: bool
) -> tuple[_Block, int]:
    """A block of two 3 x 3 convolutions, and its channels."""
    first = layers.convolution(inputs, width, 3, stride)
    second = layers.convolution(width, width, 3)
    shortcut = _shortcut(layers, inputs, width, stride, skip)
    return _Block(first, second, None, shortcut), width


def _bottleneck(
    layers: _Layers, inputs: int, width: int, stride: int, skip: bool
) -> tuple[_Block, int]:
    """A block that is narrow in its 3 x 3 convolution, and its channels."""
    outputs = 4 * width
    first = layers.convolution(inputs, width, 1)
    second = layers.convolution(width, width, 3, stride)
    third = layers.convolution(width, outputs, 1)
    shortcut = _shortcut(layers, inputs, outputs, stride, skip)
    return _Block(first, second, third, shortcut), outputs


def _shortcut(
    layers: _Layers, inputs: int, outputs: int, stride: int, skip: bool
) -> nn.Module | None:
    if not skip:
        return None
    if inputs == outputs and stride == 1:
        return nn.Identity()
    return layers.convolution(inputs, outputs, 1, stride)


BOUNDS: Ranges = {"width": at_least(1), "blocks": at_least(1)}


def _resnet(
    name: str,
    stages: tuple[int, int, int, int],
    in_shape: tuple[int, ...],
    classes: int,
    width: int,
    batch_norm: bool,
    variations: Variations,
) -> nn.Module:
    blocks = variations.get("blocks", stages[0])
    check_settings(BOUNDS, classes=classes, width=width, blocks=blocks)
    if "blocks" in variations:
        stages = (blocks, blocks, blocks, blocks)
    channels, _, _ = image_shape(name, in_shape, least_side=1)
    # Batch norm subtracts any bias before it, which would be a flat direction.
    bias = variations.get("bias", not batch_norm)
    return _ResNet(
        (channels, classes),
        width,
        stages,
        _Layers(norm=batch_norm, bias=bias),
        bottleneck=name != "resnet18",
        skip=variations.get("skip", True),
        stem=variations.get("stem", "small"),
    )


@MODELS.add("resnet18", source=SOURCE, bounds=BOUNDS)
def resnet18(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 64,
    batch_norm: bool = True,
    **variations: Unpack[Variations],
) -> nn.Module:
    """Residual network of 18 layers.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        width: channels of the first stage; the others have 2, 4 and 8 times as many.
        batch_norm: normalise each convolution over the batch.
        variations: skip: add each block's input to its output; true unless said.
            bias: of the convolutions; unless said, where there is no batch norm.
            stem: first layers: small, one 3 x 3 convolution, unless imagenet, one of
            7 x 7 with stride 2 and max-pooling. blocks: of each stage; with 1, the 18
            layers are 10.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    stages = (2, 2, 2, 2)
    return _resnet("resnet18", stages, in_shape, classes, width, batch_norm, variations)


@MODELS.add("resnet50", source=SOURCE, bounds=BOUNDS)
def resnet50(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 64,
    batch_norm: bool = True,
    **variations: Unpack[Variations],
) -> nn.Module:
    """Residual network of 50 layers, in bottleneck blocks.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        width: channels of the 3 x 3 convolutions of the first stage, which gives 4
            times as many; the other stages have 2, 4 and 8 times as many.
        batch_norm: normalise each convolution over the batch.
        variations: skip: add each block's input to its output; true unless said.
            bias: of the convolutions; unless said, where there is no batch norm.
            stem: first layers: small, one 3 x 3 convolution, unless imagenet, one of
            7 x 7 with stride 2 and max-pooling. blocks: of each stage, the same number.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    stages = (3, 4, 6, 3)
    return _resnet("resnet50", stages, in_shape, classes, width, batch_norm, variations)


@MODELS.add("resnet101", source=SOURCE, bounds=BOUNDS)
def resnet101(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    width: int = 64,
    batch_norm: bool = True,
    **variations: Unpack[Variations],
) -> nn.Module:
    """Residual network of 101 layers, in bottleneck blocks.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        width: channels of the 3 x 3 convolutions of the first stage, which gives 4
            times as many; the other stages have 2, 4 and 8 times as many.
        batch_norm: normalise each convolution over the batch.
        variations: skip: add each block's input to its output; true unless said.
            bias: of the convolutions; unless said, where there is no batch norm.
            stem: first layers: small, one 3 x 3 convolution, unless imagenet, one of
            7 x 7 with stride 2 and max-pooling. blocks: of each stage, the same number.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    stages = (3, 4, 23, 3)
    name = "resnet101"
    return _resnet(name, stages, in_shape, classes, width, batch_norm, variations)
