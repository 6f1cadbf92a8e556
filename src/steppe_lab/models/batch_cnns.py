"""Three convolutional networks with batch norm after each activation.

Source: the networks SimpleBatch, MiddleBatch and ComplexBatch of the course project on
the minimum sharpness of learning algorithms (CS-439, 2022, IrinaMBejan/OptimizationML).
Difference: outputs are plain scores. The project takes their log-softmax over the
batch, so that those of a sample depend on which others are beside it;
variant=published does the same, and is scored in batches of 1,000 in the order of the
files, as the project scores.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from steppe.registry.bounds import Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings, image_shape
from steppe_lab.models.pooling import HalvingMaxPool

SOURCE = "CS-439 project, 2022, IrinaMBejan/OptimizationML"
Variant = Literal["plain", "published"]
Stages = tuple[tuple[int, ...], ...]


class _BatchNetwork(nn.Module):
    """Convolutions by stages, each followed by pooling; two dense layers.

    The names of the parameters are those of the project, so that its weights load.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        classes: int,
        stages: Stages,
        hidden: int,
        variant: Variant,
        score_batch: int,
        *,
        padding: int,
    ) -> None:
        super().__init__()
        self.over_batch = variant == "published"
        if self.over_batch:
            self.score_batch = score_batch
        channels, *sides = in_shape
        layers: list[nn.Module] = []
        for stage in stages:
            for width in stage:
                layers += [
                    nn.Conv2d(channels, width, 3, padding=padding),
                    nn.ReLU(),
                    nn.BatchNorm2d(width),
                ]
                channels = width
            layers.append(HalvingMaxPool())
            lost = (2 - 2 * padding) * len(stage)
            sides = [(side - lost) // 2 for side in sides]
        self.convs = nn.Sequential(*layers)
        self.linears = nn.Sequential(
            nn.Linear(channels * sides[0] * sides[1], hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.linears(self.convs(x).flatten(1))
        # The classes are dimension 1: this is over the samples, as published.
        return scores.log_softmax(dim=0) if self.over_batch else scores


BOUNDS: Ranges = {"hidden": at_least(1), "score_batch": at_least(1)}
LATER = ("score_batch",)
PUBLISHED_BATCH = 1000  # samples that the project scores at once


@MODELS.add("simple_batch", source=SOURCE, bounds=BOUNDS, later=LATER)
def simple_batch(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: int = 128,
    variant: Variant = "plain",
    score_batch: int = PUBLISHED_BATCH,
) -> nn.Module:
    """Four convolutions of 16 to 128 channels, without padding; batch norm.

    Args:
        in_shape: (channels, height, width), sides of at least 16 pixels.
        classes: number of outputs.
        hidden: units of the dense layer.
        variant: plain scores, or published: their log-softmax over the batch.
        score_batch: samples at once when a published variant is scored.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    numbers = {"hidden": hidden, "score_batch": score_batch}
    check_settings(BOUNDS, classes=classes, **numbers)
    shape = image_shape("simple_batch", in_shape, least_side=16)
    stages = ((16, 32), (64, 128))
    return _BatchNetwork(
        shape, classes, stages, hidden, variant, score_batch, padding=0
    )


@MODELS.add("middle_batch", source=SOURCE, bounds=BOUNDS, later=LATER)
def middle_batch(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: int = 512,
    variant: Variant = "plain",
    score_batch: int = PUBLISHED_BATCH,
) -> nn.Module:
    """Six convolutions of 16 to 512 channels; batch norm.

    Args:
        in_shape: (channels, height, width), sides of at least 8 pixels.
        classes: number of outputs.
        hidden: units of the dense layer.
        variant: plain scores, or published: their log-softmax over the batch.
        score_batch: samples at once when a published variant is scored.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    numbers = {"hidden": hidden, "score_batch": score_batch}
    check_settings(BOUNDS, classes=classes, **numbers)
    shape = image_shape("middle_batch", in_shape, least_side=8)
    stages = ((16, 32), (64, 128), (256, 512))
    return _BatchNetwork(
        shape, classes, stages, hidden, variant, score_batch, padding=1
    )


@MODELS.add("complex_batch", source=SOURCE, bounds=BOUNDS, later=LATER)
def complex_batch(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: int = 512,
    variant: Variant = "plain",
    score_batch: int = PUBLISHED_BATCH,
) -> nn.Module:
    """Nine convolutions of 16 to 512 channels; batch norm.

    Args:
        in_shape: (channels, height, width), sides of at least 8 pixels.
        classes: number of outputs.
        hidden: units of the dense layer.
        variant: plain scores, or published: their log-softmax over the batch.
        score_batch: samples at once when a published variant is scored.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    numbers = {"hidden": hidden, "score_batch": score_batch}
    check_settings(BOUNDS, classes=classes, **numbers)
    shape = image_shape("complex_batch", in_shape, least_side=8)
    stages = ((16, 32, 32), (64, 128, 128), (256, 512, 512))
    return _BatchNetwork(
        shape, classes, stages, hidden, variant, score_batch, padding=1
    )
