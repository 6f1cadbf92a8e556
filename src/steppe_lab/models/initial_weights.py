"""Initial weights that published networks share."""

from __future__ import annotations

from typing import Literal

from torch import nn

Fan = Literal["fan_in", "fan_out"]
LAYERS = (nn.Conv2d, nn.Linear)


def he_normal(model: nn.Module, fan: Fan, *, variance: float = 1.0) -> None:
    """Draw the weights of all convolutions as He et al., 2015, Equation 14, say.

    Args:
        model: gets the weights; linear layers keep theirs. All biases become 0.
        fan: whose connections the variance 2 / n counts: those into a unit, or out.
        variance: factor on top of 2 / n.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode=fan, nonlinearity="relu")
            if variance != 1.0:
                layer.weight.data.mul_(variance**0.5)
        if isinstance(layer, LAYERS) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
