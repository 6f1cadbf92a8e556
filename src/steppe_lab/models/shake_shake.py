"""Shake-Shake network: residual blocks of two branches that are mixed at random.

Source: Gastaldi, 2017, arXiv:1705.07485, the network 26 2xKd with "Shake-Shake-Image":
coefficients of their own for each image, drawn anew in the backward pass; both branches
weigh one half in evaluation. Shortcuts that change the number of channels are two
paths of which one is shifted by a pixel, as in the program of the paper.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.initial_weights import he_normal
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape

DEEPEST = 10_000  # layers; each is an object of its own
FIRST = 16  # channels of the first convolution


def mixed(one: Tensor, two: Tensor, forward: Tensor, backward: Tensor) -> Tensor:
    """Mix two branches by one share, and their gradients by another.

    Args:
        one: outputs of the first branch, shape (B, ...).
        two: outputs of the second branch, of the same shape.
        forward: share of the first branch in the value, shape (B, 1, ...).
        backward: share of the first branch in the gradient, shape (B, 1, ...).
    """
    led = backward * one + (1 - backward) * two
    value = forward * one + (1 - forward) * two
    # The gradient is that of `led`, to any order, and the value the other.
    return led + (value - led).detach()


class _Branch(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )


class _TwoPaths(nn.Module):
    """Shortcut to more channels; the second half sees the image a pixel further on."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        half = outputs // 2
        self.stride = stride
        self.first = nn.Conv2d(inputs, half, 1, bias=False)
        self.second = nn.Conv2d(inputs, outputs - half, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1))
        step = self.stride
        halves = (
            self.first(x[:, :, ::step, ::step]),
            self.second(shifted[:, :, ::step, ::step]),
        )
        features: Tensor = self.norm(torch.cat(halves, dim=1))
        return features


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = _Branch(inputs, outputs, stride)
        self.second = _Branch(inputs, outputs, stride)
        same = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if same else _TwoPaths(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        one, two = self.first(x), self.second(x)
        shortcut: Tensor = self.shortcut(x)
        if not self.training:
            mean: Tensor = shortcut + (one + two) / 2
            return mean
        # From torch's own generator, as dropout draws, so that a replay repeats them.
        forward, backward = torch.rand(
            2, len(x), 1, 1, 1, dtype=one.dtype, device=one.device
        )
        return shortcut + mixed(one, two, forward, backward)


class _ShakeShake(nn.Module):
    def __init__(self, channels: int, classes: int, blocks: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, FIRST, 3, padding=1, bias=False), nn.BatchNorm2d(FIRST)
        )
        layers, inputs = [], FIRST
        for stage in range(3):
            outputs = width * 2**stage
            for number in range(blocks):
                stride = 2 if stage > 0 and number == 0 else 1
                layers.append(_Block(inputs, outputs, stride))
                inputs = outputs
        self.blocks = nn.Sequential(*layers)
        self.head = nn.Linear(inputs, classes)

    def forward(self, x: Tensor) -> Tensor:
        features = F.relu(self.blocks(self.stem(x)))
        scores: Tensor = self.head(features.mean(dim=(2, 3)))
        return scores


BOUNDS: Ranges = {"depth": Range(8, DEEPEST, whole=True), "width": at_least(1)}


@MODELS.add("shake_shake", source="Gastaldi, 2017, arXiv:1705.07485", bounds=BOUNDS)
def shake_shake(
    in_shape: tuple[int, ...], classes: int, *, depth: int = 26, width: int = 96
) -> nn.Module:
    """Shake-Shake network, 26 2x96d unless said otherwise.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        depth: number of layers: 8, 14, 20, 26, ...
        width: channels of each branch in the first stage; the others have 2 and 4 times
            as many.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    check_settings(BOUNDS, classes=classes, depth=depth, width=width)
    channels, _, _ = image_shape("shake_shake", in_shape, least_side=1)
    blocks, rest = divmod(depth - 2, 6)
    if rest:
        raise SettingError(
            f"depth must be 6 n + 2 for shake_shake, such as 20 or 26, got {depth}."
        )
    model = _ShakeShake(channels, classes, blocks, width)
    he_normal(model, "fan_out")
    return model
