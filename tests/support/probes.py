"""Subspaces whose loss at each point is chosen by a test."""

import torch
from torch import nn

from steppe.landscapes.subspaces.abstract import Axis
from steppe.landscapes.subspaces.box import Box
from steppe.landscapes.subspaces.line import Line
from steppe.landscapes.subspaces.plane import Plane
from steppe.objective import Objective


class Probe(nn.Module):
    """Coordinates as parameters, so that a test chooses the loss at each point."""

    def __init__(self, axes):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(axes, dtype=torch.float64))
        self.seen = []


def probe(function, axes=2):
    """An objective whose loss at a point is a function of its coordinates."""
    model = Probe(axes)

    def loss(model, batch):
        place = tuple(model.w.tolist())
        model.seen.append(place)
        value = torch.tensor(function(*place), dtype=torch.float64)
        return value + batch

    objective = Objective(model, [torch.tensor([-0.0, 0.0]).double()], loss)
    objective.count()
    objective.check_repeatable()
    model.seen.clear()
    unit = tuple(torch.eye(axes, dtype=torch.float64))
    kinds = {1: Line, 2: Plane, 3: Box}
    subspace = kinds[axes](
        names=("w",),
        base=(torch.zeros(axes, dtype=torch.float64),),
        directions=tuple((each,) for each in unit),
        axes=(Axis(),) * axes,
    )
    return objective, subspace
