"""Other points of parameter space: where the training began, and another network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from steppe.errors import SettingError, UsageError, brief
from steppe.measures.measurement import Measurement, Need, Weights
from steppe.objective import Objective


@dataclass(frozen=True)
class StartWeights(Need[list[Tensor]]):
    """The parameters at the start of the training, P tensors as in the objective."""

    kind: ClassVar[str] = "start"

    def serve(self, measurement: Measurement) -> list[Tensor]:
        """Find them among the tensors given as `start`."""
        if measurement.start is None:
            raise UsageError(
                "this measure needs the weights at the start of the training; give "
                "them as start=, a network or its state_dict."
            )
        return _parameters(measurement.objective, measurement.start)


@dataclass(frozen=True)
class StartTensors(Need[dict[str, Tensor]]):
    """Parameters and buffers at the start of the training, by name, as it was given."""

    kind: ClassVar[str] = "start"

    def serve(self, measurement: Measurement) -> dict[str, Tensor]:
        """Look that the parameters are there, and give all that fits the network."""
        measurement.of(StartWeights())
        model = measurement.objective.model
        own = dict(model.named_parameters()) | dict(model.named_buffers())
        state = tensors_of("start", measurement.start)
        check_shapes("start", {name: own[name] for name in own if name in state}, state)
        return {n: state[n].detach().to(own[n].device) for n in own if n in state}


@dataclass(frozen=True)
class OtherNetwork(Need[dict[str, Tensor]]):
    """Parameters and buffers of a second network of the same structure, by name."""

    kind: ClassVar[str] = "other network"

    def serve(self, measurement: Measurement) -> dict[str, Tensor]:
        """Find them among the tensors given as `other`."""
        if measurement.other is None:
            raise UsageError(
                "this measure needs a second network of the same structure; give it as "
                "other=, a network or its state_dict."
            )
        own = measurement.objective.model.state_dict()
        state = tensors_of("other", measurement.other)
        check_shapes("other", own, state)
        return {name: state[name].detach() for name in own}


def tensors_of(what: str, weights: Any) -> Mapping[str, Tensor]:
    """Tensors by name.

    Args:
        what: name of the argument, for the message.
        weights: a network or a state_dict.
    """
    state = weights.state_dict() if isinstance(weights, nn.Module) else weights
    if not isinstance(state, Mapping) or not all(
        isinstance(t, Tensor) for t in state.values()
    ):
        raise SettingError(
            f"{what} must be a network or its state_dict, got {brief(weights)}."
        )
    return state


def check_shapes(
    what: str, own: Mapping[str, Tensor], state: Mapping[str, Tensor]
) -> None:
    """Refuse tensors that are missing or of another shape."""
    for name, tensor in own.items():
        shape = tuple(state[name].shape) if name in state else "none"
        if shape != tuple(tensor.shape):
            raise SettingError(
                f"{what} must have the tensors of the measured network, but {name} is "
                f"of shape {tuple(tensor.shape)} there and {shape} in {what}."
            )


def _parameters(objective: Objective, weights: Weights) -> list[Tensor]:
    own: dict[str, Tensor] = dict(zip(objective.names, objective.params, strict=True))
    state = tensors_of("start", weights)
    check_shapes("start", own, state)
    with torch.no_grad():
        return [state[name].detach().to(p) for name, p in own.items()]
