"""Planes through parameter space.

Source: Li et al., 2018, arXiv:1712.09913.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Unpack

from torch import nn

from steppe.landscapes.checkpoints import Checkpoint
from steppe.landscapes.directions.eigen import EigenSettings
from steppe.landscapes.directions.ignoring import Ignore
from steppe.landscapes.directions.norms import Norm
from steppe.landscapes.directions.pca import Center
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.landscapes.subspaces.eigen import eigen_subspace
from steppe.landscapes.subspaces.frames import Unit, framed, joined
from steppe.landscapes.subspaces.networks import Network, through_networks
from steppe.landscapes.subspaces.pca import BUDGET, pca_subspace
from steppe.landscapes.subspaces.random import Of, random_subspace
from steppe.landscapes.subspaces.saved import SavedSubspace
from steppe.objective import Objective
from steppe.seeds import seed_of


@dataclass(frozen=True, kw_only=True, repr=False)
class Plane(SavedSubspace):
    """Points `base + x * directions[0] + y * directions[1]`."""

    dimensions: ClassVar[int] = 2

    @classmethod
    def random(
        cls,
        model: nn.Module,
        norm: Norm = "filter",
        ignore: Ignore = "biasbn",
        seed: int = 0,
        *,
        of: Of = "parameters",
        orthogonal: bool = False,
        unit: Unit = "direction",
    ) -> Plane:
        """A random plane through the parameters of a model.

        Two random directions are nearly orthogonal in many dimensions. Surfaces have
        the cosine of the angle between them in their details.

        Args:
            model: its parameters that require a gradient are the base point.
            norm: see `Line.random`.
            ignore: see `Line.random`. With "none" both directions share the tensors of
                at most one dimension, as published.
            seed: of the two draws; the first is that of `Line.random`.
            of: see `Line.random`.
            orthogonal: take the projection on the first direction out of the second,
                after the norm: its filters are shorter than those of the norm then.
            unit: see `Line.random`.

        Raises:
            SettingError: see `Line.random`; or two directions of one line, such as
                those of a model with a single parameter.
        """
        seeds = [seed, seed_of(seed, 1)]
        return cls(
            **random_subspace(
                model, seeds, norm, ignore, of, unit, orthogonal=orthogonal
            )
        )

    @classmethod
    def through(
        cls,
        model_a: Network,
        model_b: Network,
        model_c: Network,
        *,
        orthogonal: bool = False,
        unit: Unit = "direction",
    ) -> Plane:
        """The plane through three models: at (0, 0), (1, 0) and (0, 1).

        Their parameters are met bit for bit; see `Line.between` for the buffers.

        Args:
            model_a: at the origin; see `Line.between`.
            model_b: on the x axis.
            model_c: on the y axis; beside it where the axes are orthogonal.
            orthogonal: the y axis is orthogonal to the x axis, so that distances are
                seen as they are where the unit is "absolute", too (as Garipov et al.,
                2018, arXiv:1802.10026, draw planes). The details have the coordinates
                of the three models.
            unit: see `Line.between`.

        Raises:
            SettingError: the models differ in the names or shapes of parameters or
                buffers, or in the values of a parameter that is frozen in `model_a`; or
                they lie on one line.
        """
        fields = through_networks(model_a, [model_b, model_c])
        return cls(**framed(fields, orthogonal=orthogonal, unit=unit))

    @classmethod
    def of(
        cls,
        x: Subspace,
        y: Subspace,
        *,
        orthogonal: bool = False,
        unit: Unit = "direction",
        parallel: bool = False,
    ) -> Plane:
        """The plane of two lines through one point.

        The lines may be of different kinds, such as one between networks and a random
        one, and of different norms.

        Args:
            x: a line, the first axis.
            y: a line, the second axis.
            orthogonal: see `random`.
            unit: see `random`; "direction" keeps that of each line.
            parallel: allow two lines in one direction, on which the surface is the same
                along every diagonal.

        Raises:
            SettingError: other subspaces than lines, lines through different points, or
                in one direction.
        """
        fields = joined([x, y])
        return cls(
            **framed(fields, orthogonal=orthogonal, unit=unit, parallel=parallel)
        )

    @classmethod
    def eigen(
        cls,
        objective: Objective,
        indices: tuple[int, int] = (0, 1),
        **settings: Unpack[EigenSettings],
    ) -> Plane:
        """The plane along two eigenvectors of the Hessian at the present parameters.

        Args:
            objective: the mean loss, whose parameters are the base point.
            indices: of the eigenvalues, as in `Line.eigen`; (0, -1) takes the largest
                and the smallest.
            **settings: as in `Line.eigen`.

        Raises:
            SettingError: a setting out of range, or the same index twice.
            UsageError: eigenpairs that did not converge.
        """
        return cls(**eigen_subspace(objective, indices, **settings))

    @classmethod
    def pca(
        cls,
        checkpoints: Iterable[Checkpoint],
        model: nn.Module | None = None,
        *,
        center: Center = "final",
        ignore: Ignore = "none",
        budget: int = BUDGET,
    ) -> Plane:
        """The plane along the first two principal components of checkpoints.

        The components are unit vectors, those of the variance about the mean of the
        checkpoints, as scikit-learn has them; the largest entry of each is positive.
        The plane goes through the last checkpoint, as in the published code, though the
        mean may lie off it. So the details hold two shares: the
        "explained_variance_ratio" of each component, about the mean, and
        "explained_from_base", of the squared distances from the base point, which is 1
        in sum where all checkpoints lie in the plane.

        Args:
            checkpoints: at least three networks, state_dicts, paths of files that
                torch.save or safetensors wrote, or functions that read one.
            model: a network whose parameters that require a gradient are the variables;
                None for the last of the checkpoints, which must be a network then:
                paths and state_dicts need it.
            center: the base point: the "final" checkpoint, the "first", or the "mean",
                with the buffers of the last.
            ignore: "biasbn" leaves tensors of at most one dimension out of the
                components; "none" none.
            budget: bytes for checkpoints in memory at once; with less than all of them
                take, each is read several times.

        Raises:
            SettingError: checkpoints of another network, or state_dicts without a
                model.
            DataError: a file that cannot be read, or numbers that are not finite.
            UsageError: checkpoints on one line.
        """
        return cls(**pca_subspace(checkpoints, 2, model, center, ignore, budget))
