"""Other points of parameter space: where the training began, and another network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.errors import UsageError
from steppe.measures.measurement import Measurement, Need, Weights
from steppe.objective import Objective
from steppe.seeds import seed_named
from steppe.state_dicts import check_shapes, tensors_of
from steppe.symmetries.weight_matching import weight_matching


@dataclass(frozen=True)
class StartWeights(Need[list[Tensor]]):
    """The parameters at the start of the training, P tensors as in the objective."""

    kind: ClassVar[str] = "start"

    def serve(self, measurement: Measurement) -> list[Tensor]:
        """Find them among the tensors given as `start`."""
        if measurement.start is None:
            raise UsageError(
                "this measure needs the weights at the start of the training; give "
                "start=, a network or its state_dict (--start on the command line)."
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
        state = tensors_of("start", measurement.start, own)
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
                "this measure needs a second network of the same structure; give "
                "other=, a network or its state_dict (--other on the command line)."
            )
        own = measurement.objective.model.state_dict()
        state = tensors_of("other", measurement.other, own)
        check_shapes("other", own, state)
        return {name: state[name].detach() for name in own}


@dataclass(frozen=True)
class MatchedNetwork(Need[dict[str, Tensor]]):
    """The second network with its units in the order of those of the measured one."""

    kind: ClassVar[str] = "weight matching"

    def serve(self, measurement: Measurement) -> dict[str, Tensor]:
        """Match the units by their weights."""
        other = measurement.of(OtherNetwork())
        seed = seed_named(f"{measurement.seed}:{self.kind}")
        return weight_matching(measurement.objective, other, seed=seed)


def _parameters(objective: Objective, weights: Weights) -> list[Tensor]:
    own: dict[str, Tensor] = dict(zip(objective.names, objective.params, strict=True))
    state = tensors_of("start", weights, own)
    check_shapes("start", own, state)
    with torch.no_grad():
        return [state[name].detach().to(p) for name, p in own.items()]
