"""Losses on the straight line to a second network.

Shape letters: B loss terms of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.measures.measurement import JointNeed, Measurement
from steppe.measures.needs.weights.references import MatchedNetwork, OtherNetwork
from steppe.measuring.batch_norm import reestimate
from steppe.objective import Objective
from steppe.parameters import between, interpolated, load_, restored
from steppe.results import Cost

BatchNorm = Literal["reestimate", "interpolate", "freeze"]


@dataclass(frozen=True)
class PathLosses:
    """Losses at one point."""

    batches: list[Tensor]  # loss terms of each batch, shapes (B,), float64
    mean: float  # over all terms, and the penalty there


@dataclass(frozen=True)
class LossesOnPath(JointNeed[PathLosses]):
    """Losses at one point of the line from the measured network to a second one.

    Args:
        coordinate: from 0, the measured network, to 1, the second one.
        batch_norm: running statistics: those of the data at the point ("reestimate"),
            between those of the two networks ("interpolate"), or those of the measured
            network ("freeze").
        matched: the second network has its units in the order of the first.
    """

    kind: ClassVar[str] = "losses on a path"

    coordinate: float
    batch_norm: BatchNorm = "reestimate"
    matched: bool = False

    @classmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Move to each point from the ends; one forward pass for each."""
        ends = {
            matched: measurement.of(MatchedNetwork() if matched else OtherNetwork())
            for matched in sorted({need.matched for need in needs})
        }
        objective = measurement.objective
        model = objective.model
        objective.check_repeatable()
        objective.count()  # at these parameters, and not at those of a point
        start = {name: t.detach().clone() for name, t in model.state_dict().items()}
        weights = list(model.parameters())
        with objective.measuring(), restored(weights), torch.no_grad():
            return [
                _losses(objective, need, start, ends[need.matched]) for need in needs
            ]


def _losses(
    objective: Objective,
    need: LossesOnPath,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
) -> PathLosses:
    model, at = objective.model, need.coordinate
    state = {}
    buffers = dict(model.named_buffers())
    for name, tensor in start.items():
        other = end[name].to(tensor)
        if name not in buffers:
            ends = {0.0: tensor, 1.0: other}
            state[name] = ends[at] if at in ends else interpolated(tensor, other, at)
        else:
            frozen = need.batch_norm == "freeze"
            state[name] = tensor if frozen else between(tensor, other, at)
    load_(model, state)
    # Batches have statistics of their own in mode "train".
    if need.batch_norm == "reestimate" and objective.mode != "train":
        changed = reestimate(
            model,
            range(len(objective.batches)),
            forward=lambda _model, index: objective.batch_values(index),
        )
        objective.cost += Cost(forwards=1 if changed else 0)
    count = len(objective.batches)
    batches = [objective.batch_values(index).double() for index in range(count)]
    objective.cost += Cost(forwards=1)
    terms = objective.count()
    total = float(torch.stack([losses.sum() for losses in batches]).sum())
    return PathLosses(batches, total / terms + objective.penalty_value())
