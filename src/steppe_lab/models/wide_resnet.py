"""Wide residual networks: few layers, many channels.

Source: Zagoruyko and Komodakis, 2016, arXiv:1605.07146, Table 1, with the block of
Figure 1d (dropout between its convolutions). The form davda54 is that of a widespread
program for SAM (davda54/sam, MIT licence): each stage has one block more, only the
first of each stage has a shortcut, the last layer starts at 0.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from torch import Tensor, nn

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.initial_weights import he_normal
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape

DEEPEST = 10_000  # layers; each is an object of its own
FIRST = 16  # channels of the first convolution
HEAD = "8_classification"
Form = Literal["published", "davda54"]


class _Unit(nn.Module):
    """x + conv(relu(norm(conv(relu(norm(x)))))), or without the sum."""

    def __init__(self, channels: int, dropout: float, skip: bool) -> None:
        super().__init__()
        self.skip = skip
        self.block = nn.Sequential(
            OrderedDict(
                {
                    "0_normalization": nn.BatchNorm2d(channels),
                    "1_activation": nn.ReLU(),
                    "2_convolution": _convolution(channels, channels),
                    "3_normalization": nn.BatchNorm2d(channels),
                    "4_activation": nn.ReLU(),
                    "5_dropout": nn.Dropout(dropout),
                    "6_convolution": _convolution(channels, channels),
                }
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        residual: Tensor = self.block(x)
        return x + residual if self.skip else residual


class _ChangingUnit(nn.Module):
    """Unit that changes the shape; its shortcut sees the normalised input too."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm_act = nn.Sequential(
            OrderedDict(
                {
                    "0_normalization": nn.BatchNorm2d(inputs),
                    "1_activation": nn.ReLU(),
                }
            )
        )
        self.block = nn.Sequential(
            OrderedDict(
                {
                    "0_convolution": _convolution(inputs, outputs, stride),
                    "1_normalization": nn.BatchNorm2d(outputs),
                    "2_activation": nn.ReLU(),
                    "3_dropout": nn.Dropout(dropout),
                    "4_convolution": _convolution(outputs, outputs),
                }
            )
        )
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm_act(x)
        total: Tensor = self.block(x) + self.downsample(x)
        return total


class _Stage(nn.Module):
    def __init__(self, units: list[nn.Module]) -> None:
        super().__init__()
        self.block = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.block(x)
        return features


class _WideResNet(nn.Module):
    """Network whose parameters have the names of davda54/sam: its weights load."""

    def __init__(
        self,
        channels: int,
        classes: int,
        units: int,
        width: int,
        dropout: float,
        form: Form,
    ) -> None:
        super().__init__()
        layers = OrderedDict[str, nn.Module](
            {"0_convolution": _convolution(channels, FIRST)}
        )
        inputs = FIRST
        for number in range(3):
            outputs, stride = FIRST * width * 2**number, 1 if number == 0 else 2
            changes = inputs != outputs or form == "davda54"
            stage: list[nn.Module] = [
                _ChangingUnit(inputs, outputs, stride, dropout)
                if changes
                else _Unit(outputs, dropout, skip=True)
            ]
            skip = form == "published"
            stage += [_Unit(outputs, dropout, skip) for _ in range(units - 1)]
            layers[f"{number + 1}_block"] = _Stage(stage)
            inputs = outputs
        layers["4_normalization"] = nn.BatchNorm2d(inputs)
        layers["5_activation"] = nn.ReLU()
        layers["6_pooling"] = nn.AdaptiveAvgPool2d(1)
        layers["7_flattening"] = nn.Flatten()
        layers[HEAD] = nn.Linear(inputs, classes)
        self.f = nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.f(x)
        return scores


BOUNDS: Ranges = {
    "depth": Range(4, DEEPEST, whole=True),
    "width": at_least(1),
    "dropout": Range(0.0, 1.0, below=True),
}


@MODELS.add(
    "wide_resnet",
    source="Zagoruyko and Komodakis, 2016, arXiv:1605.07146",
    bounds=BOUNDS,
)
def wide_resnet(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    depth: int = 16,
    width: int = 8,
    dropout: float = 0.0,
    form: Form = "published",
) -> nn.Module:
    """Wide residual network, WRN-16-8 unless said otherwise.

    Args:
        in_shape: (channels, height, width).
        classes: number of outputs.
        depth: number of layers: 10, 16, 22, 28, ...; from 4 on for davda54, which
            rounds it down.
        width: factor on the channels 16, 32 and 64 of the three stages.
        dropout: share of the features that is dropped between the convolutions of a
            block.
        form: published, or davda54: one block more a stage, and a shortcut in the first
            block of each stage alone.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    numbers = {"depth": depth, "width": width, "dropout": dropout}
    check_settings(BOUNDS, classes=classes, **numbers)
    channels, _, _ = image_shape("wide_resnet", in_shape, least_side=1)
    units, rest = divmod(depth - 4, 6)
    if form == "published" and (rest or units < 1):
        raise SettingError(
            f"depth must be 6 n + 4 for wide_resnet, such as 10, 16 or 28, got {depth}."
        )
    units += form == "davda54"
    model = _WideResNet(channels, classes, units, width, dropout, form)
    he_normal(model, "fan_out" if form == "published" else "fan_in")
    if form == "davda54":
        nn.init.zeros_(model.f.get_parameter(f"{HEAD}.weight"))
    return model


def _convolution(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    # Batch norm follows and subtracts any bias, or it is a sum that one follows.
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
