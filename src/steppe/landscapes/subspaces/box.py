"""Boxes of any number of axes through parameter space.

Source: Li et al., 2018, arXiv:1712.09913, who have lines and planes.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from steppe.errors import SettingError, check_count
from steppe.landscapes.directions.ignoring import Ignore
from steppe.landscapes.directions.norms import Norm
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.landscapes.subspaces.frames import Unit, framed, joined
from steppe.landscapes.subspaces.networks import Network, through_networks
from steppe.landscapes.subspaces.random import Of, random_subspace
from steppe.landscapes.subspaces.saved import SavedSubspace
from steppe.seeds import seed_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Box(SavedSubspace):
    """Points `base + x * directions[0] + y * directions[1] + ...`."""

    @classmethod
    def random(
        cls,
        model: nn.Module,
        axes: int = 3,
        norm: Norm = "filter",
        ignore: Ignore = "biasbn",
        seed: int = 0,
        *,
        of: Of = "parameters",
        orthogonal: bool = False,
        unit: Unit = "direction",
    ) -> Box:
        """A random box through the parameters of a model.

        Args:
            model: its parameters that require a gradient are the base point.
            axes: number of axes, at least 1.
            norm: see `Line.random`.
            ignore: see `Line.random`.
            seed: of all draws; the first two are those of `Plane.random`.
            of: see `Line.random`.
            orthogonal: each direction less its projections on those before it; see
                `Plane.random`.
            unit: see `Line.random`.

        Raises:
            SettingError: see `Line.random`; a number of axes below 1, or above that of
                the parameters.
        """
        check_count("axes", axes, 1)
        seeds = [seed_of(seed, axis) if axis else seed for axis in range(axes)]
        return cls(
            **random_subspace(
                model, seeds, norm, ignore, of, unit, orthogonal=orthogonal
            )
        )

    @classmethod
    def through(
        cls,
        model: Network,
        *others: Network,
        orthogonal: bool = False,
        unit: Unit = "direction",
    ) -> Box:
        """The box with one model at 0 and each other one at 1 of an axis of its own.

        They are met bit for bit; see `Line.between` and `Plane.through`.

        Args:
            model: at the origin.
            others: one for each axis, at least 1.
            orthogonal: see `Plane.through`.
            unit: see `Line.between`.

        Raises:
            SettingError: see `Plane.through`; or no other model.
        """
        if not others:
            raise SettingError("a box needs at least one other model for an axis.")
        fields = through_networks(model, others)
        return cls(**framed(fields, orthogonal=orthogonal, unit=unit))

    @classmethod
    def of(
        cls,
        *parts: Subspace,
        orthogonal: bool = False,
        unit: Unit = "direction",
    ) -> Box:
        """The box with the axes of several lines, planes or boxes, in their order.

        Args:
            parts: subspaces through one point, at least 1.
            orthogonal: see `random`.
            unit: see `random`; "direction" keeps that of each part.

        Raises:
            SettingError: subspaces through different points, curves, or directions that
                lie in fewer dimensions.
        """
        if not parts:
            raise SettingError("a box needs at least one line, plane or box.")
        return cls(**framed(joined(parts), orthogonal=orthogonal, unit=unit))
