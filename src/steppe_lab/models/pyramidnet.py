"""Pyramidal residual networks: every block has a few more channels than the last.

Source: Han, Kim and Kim, 2017, arXiv:1610.02915, Equation 3 (additive) and Figure 6d
(batch norm first and last, one activation less); zero-padded shortcuts. Difference: the
number of channels is rounded to the nearest, as in the authors' program, where Equation
3 rounds it down.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.initial_weights import he_normal
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape

DEEPEST = 10_000  # layers; each is an object of its own
FIRST = 16  # channels of the first convolution
WIDER = 4  # times as many channels leave a bottleneck
Kind = Literal["basic", "bottleneck"]


def channels_of_blocks(blocks: int, alpha: int) -> list[int]:
    """Channels of the convolutions of each block: alpha more over all of them."""
    return [round(FIRST + alpha * k / blocks) for k in range(1, blocks + 1)]


class _Block(nn.Module):
    """Branch plus the input, which is halved and padded with zeros where it must be."""

    def __init__(self, branch: nn.Module, added: int, stride: int) -> None:
        super().__init__()
        self.branch = branch
        self.added, self.stride = added, stride

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.branch(x)
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, ceil_mode=True)
        # From the end: columns, rows, channels.
        return residual + F.pad(x, (0, 0, 0, 0, 0, self.added))


def _basic(inputs: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.BatchNorm2d(width),
    )


def _bottleneck(inputs: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.Conv2d(inputs, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.Conv2d(width, WIDER * width, 1, bias=False),
        nn.BatchNorm2d(WIDER * width),
    )


class _PyramidNet(nn.Module):
    def __init__(
        self, channels: int, classes: int, blocks: int, alpha: int, kind: Kind
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, FIRST, 3, padding=1, bias=False), nn.BatchNorm2d(FIRST)
        )
        make, wider = (_basic, 1) if kind == "basic" else (_bottleneck, WIDER)
        layers, inputs = [], FIRST
        for number, width in enumerate(channels_of_blocks(3 * blocks, alpha)):
            stride = 2 if number in (blocks, 2 * blocks) else 1
            branch, outputs = make(inputs, width, stride), wider * width
            layers.append(_Block(branch, outputs - inputs, stride))
            inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.norm = nn.BatchNorm2d(inputs)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.norm(self.blocks(self.stem(x))))
        scores: Tensor = self.head(features.mean(dim=(2, 3)))
        return scores


BOUNDS: Ranges = {"depth": Range(8, DEEPEST, whole=True), "alpha": at_least(1)}


@MODELS.add("pyramidnet", source="Han et al., 2017, arXiv:1610.02915", bounds=BOUNDS)
def pyramidnet(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 110,
    alpha: int = 270,
    block: Kind = "basic",
) -> nn.Module:
    """Pyramidal residual network, of 110 layers and alpha 270 unless said otherwise.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        depth: number of layers: 6 n + 2 of basic blocks, 9 n + 2 of bottlenecks.
        alpha: channels that are added to the first 16 over all blocks.
        block: basic, two 3 x 3 convolutions; bottleneck, a 3 x 3 one between 1 x 1.
            Published are alpha 200 and bottlenecks for 272 layers.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    check_settings(BOUNDS, classes=classes, depth=depth, alpha=alpha)
    channels, _, _ = image_shape("pyramidnet", in_shape, least_side=1)
    size = 6 if block == "basic" else 9
    blocks, rest = divmod(depth - 2, size)
    if rest or blocks < 1:
        raise SettingError(
            f"depth must be {size} n + 2 for pyramidnet of {block} blocks, such as "
            f"{12 * size + 2}, got {depth}."
        )
    model = _PyramidNet(channels, classes, blocks, alpha, block)
    he_normal(model, "fan_out")
    return model
