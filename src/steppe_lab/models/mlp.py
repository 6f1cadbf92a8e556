"""Multilayer perceptron: fully connected layers of one width on the flattened input.

Source: Rumelhart, Hinton and Williams, 1986, Learning representations by
back-propagating errors; with rectified linear units.
"""

from __future__ import annotations

import math

from torch import nn

from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings

DEEPEST = 1000  # layers; each is an object of its own


BOUNDS: Ranges = {
    "hidden": at_least(1),
    "depth": Range(1, DEEPEST, whole=True),
}


@MODELS.add("mlp", source="Rumelhart et al., 1986", bounds=BOUNDS)
def mlp(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: int = 128,
    depth: int = 2,
    batch_norm: bool = False,
) -> nn.Module:
    """Multilayer perceptron with rectified linear units.

    Args:
        in_shape: shape of one input; it is flattened.
        classes: number of outputs.
        hidden: units in each hidden layer.
        depth: number of hidden layers.
        batch_norm: normalise each hidden layer over the batch before its activation.

    Raises:
        SettingError: a setting out of range.
    """
    check_settings(BOUNDS, classes=classes, hidden=hidden, depth=depth)
    layers: list[nn.Module] = [nn.Flatten()]
    features = math.prod(in_shape)
    for _ in range(depth):
        # Batch norm subtracts any bias before it, which would be a flat direction.
        layers.append(nn.Linear(features, hidden, bias=not batch_norm))
        if batch_norm:
            layers.append(nn.BatchNorm1d(hidden))
        layers.append(nn.ReLU())
        features = hidden
    return nn.Sequential(*layers, nn.Linear(features, classes))
