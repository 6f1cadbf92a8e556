"""Boxes of any number of axes through parameter space.

Source: Li et al., 2018, arXiv:1712.09913, who have lines and planes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from steppe.errors import check_count
from steppe.landscapes.directions.random import Ignore, Norm
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.landscapes.subspaces.networks import through_networks
from steppe.landscapes.subspaces.random import random_subspace
from steppe.seeds import seed_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Box(Subspace):
    """Points `base + x * directions[0] + y * directions[1] + ...`."""

    @classmethod
    def random(
        cls,
        model: nn.Module,
        axes: int = 3,
        norm: Norm = "filter",
        ignore: Ignore = "biasbn",
        seed: int = 0,
    ) -> Box:
        """A random box through the parameters of a model.

        Args:
            model: see `Line.random`.
            axes: number of axes, at least 1.
            norm: see `Line.random`.
            ignore: see `Line.random`.
            seed: of all draws; the first two are those of `Plane.random`.

        Raises:
            SettingError: an unknown norm or ignore, or a number of axes below 1.
        """
        check_count("axes", axes, 1)
        seeds = [seed_of(seed, axis) if axis else seed for axis in range(axes)]
        return cls(**random_subspace(model, seeds, norm, ignore))

    @classmethod
    def through(cls, model: nn.Module, *others: nn.Module) -> Box:
        """The box with one model at 0 and each other one at 1 of an axis of its own.

        They are met bit for bit; see `Line.between`.

        Raises:
            SettingError: see `Line.between`.
        """
        return cls(**through_networks(model, others))
