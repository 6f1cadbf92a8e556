"""Lines through parameter space.

Source: Li et al., 2018, arXiv:1712.09913.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Unpack

from torch import Tensor, nn

from steppe.landscapes.checkpoints import Checkpoint
from steppe.landscapes.directions.eigen import EigenSettings
from steppe.landscapes.directions.ignoring import Ignore
from steppe.landscapes.directions.norms import Norm
from steppe.landscapes.directions.pca import Center
from steppe.landscapes.subspaces.eigen import eigen_subspace
from steppe.landscapes.subspaces.frames import Unit, framed
from steppe.landscapes.subspaces.networks import Network, through_networks
from steppe.landscapes.subspaces.pca import BUDGET, pca_subspace
from steppe.landscapes.subspaces.random import Of, random_subspace
from steppe.landscapes.subspaces.saved import SavedSubspace
from steppe.objective import Objective


@dataclass(frozen=True, kw_only=True, repr=False)
class Line(SavedSubspace):
    """Points `base + coordinate * direction`; the tensors are copies."""

    dimensions: ClassVar[int] = 1

    @property
    def direction(self) -> tuple[Tensor, ...]:
        """The direction, P tensors."""
        return self.directions[0]

    @classmethod
    def random(
        cls,
        model: nn.Module,
        norm: Norm = "filter",
        ignore: Ignore = "biasbn",
        seed: int = 0,
        *,
        of: Of = "parameters",
        unit: Unit = "direction",
    ) -> Line:
        """A random line through the parameters of a model.

        The draw is on the CPU in float32, tensor by tensor in the order of their names,
        so that a seed means the same line on every device and however the model was
        built. Parameters of a parametrization move as they are: with weight norm, the
        lengths and the directions of its filters.

        Args:
            model: its parameters that require a gradient are the base point.
            norm: of Li et al., 2018. "filter" gives each output row the norm of the
                parameters' own row, "layer" each tensor the norm of its own; "weight"
                multiplies entry by entry with the parameters; "dfilter" and "dlayer"
                give rows and tensors the norm 1; "none" keeps the normal draw.
            ignore: "biasbn" leaves tensors of at most one dimension where they are;
                "none" makes each of those its own direction, as published; a pattern of
                names such as "head.*" leaves those too that it matches. Several of
                these as a list.
            seed: of the draw, whatever was drawn before.
            of: "parameters"; or "states" for the buffers as well that a state_dict
                holds, as published, such as running statistics. A variance that would
                become negative is 0. Those that are no finite floating-point numbers
                stay.
            unit: 1 is the whole "direction" as drawn, or an "absolute" distance of 1
                between the parameters.

        Raises:
            SettingError: an unknown norm, rule or unit, or a direction of zeros alone.
        """
        return cls(**random_subspace(model, [seed], norm, ignore, of, unit))

    @classmethod
    def between(
        cls, model_a: Network, model_b: Network, *, unit: Unit = "direction"
    ) -> Line:
        """The line from one model (coordinate 0) to another (coordinate 1).

        It moves the parameters that require a gradient in `model_a`, and buffers of
        floating-point numbers with them: without batch norm, both ends are the two
        models bit for bit. Running statistics are re-estimated at every point, unless
        `landscape` is asked for others. All
        other buffers are those of `model_a`, at 1 and beyond those of `model_b`. The
        vectors of a spectral norm move too, though between the ends they
        are not those of the weights: its networks are true at the ends alone.

        Args:
            model_a: a network or an objective of one.
            model_b: the same, or a state_dict; a prefix of all names, such as
                "module.", is taken off.
            unit: 1 is the whole way from one to the other ("direction"), or an
                "absolute" distance of 1 between the parameters.

        Raises:
            SettingError: the models differ in the names or shapes of parameters or
                buffers, or in the values of a parameter that is frozen in `model_a`.
        """
        return cls(**framed(through_networks(model_a, [model_b]), unit=unit))

    @classmethod
    def eigen(
        cls, objective: Objective, index: int = 0, **settings: Unpack[EigenSettings]
    ) -> Line:
        """The line along an eigenvector of the Hessian at the present parameters.

        The direction has the length of one unit, and the largest of its entries is
        positive, so that two runs have the same sign. Where eigenvalues coincide, any
        vector of their common space is one of theirs.

        Args:
            objective: the mean loss, whose parameters are the base point.
            index: of the eigenvalue: 0 the largest, -1 the smallest; a position among
                those of `pairs` where these are given.
            **settings: `pairs` that are known; `unit` and `lr` of the coordinates:
                `unit="step"` is the mean length of a step of SGD along the eigenvector;
                `tol`, `max_products` and `allow_unconverged` of the search; see
                `EigenSettings`.

        Raises:
            SettingError: a setting out of range, pairs of another network, or
                parameters in half precision, which rounds such steps away.
            UsageError: eigenpairs that did not converge.

        Example:
            >>> import steppe, torch
            >>> model = torch.nn.Linear(2, 1, bias=False)
            >>> x = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
            >>> objective = steppe.Objective(model, (x, torch.zeros(2, 1)), loss="mse")
            >>> line = steppe.Line.eigen(objective)
            >>> [round(v, 3) for v in line.details["eigenvalues"]]
            [9.0]
            >>> [round(v, 3) for v in line.direction[0][0].abs().tolist()]
            [0.0, 1.0]
        """
        return cls(**eigen_subspace(objective, (index,), **settings))

    @classmethod
    def pca(
        cls,
        checkpoints: Iterable[Checkpoint],
        model: nn.Module | None = None,
        *,
        center: Center = "final",
        ignore: Ignore = "none",
        budget: int = BUDGET,
    ) -> Line:
        """The line along the first principal component of checkpoints.

        Args:
            checkpoints: at least two; as in `Plane.pca`.
            model: as in `Plane.pca`.
            center: as in `Plane.pca`.
            ignore: as in `Plane.pca`.
            budget: as in `Plane.pca`.

        Raises:
            SettingError: checkpoints of another network.
            DataError: a file that cannot be read, or numbers that are not finite.
            UsageError: checkpoints that are all the same.
        """
        return cls(**pca_subspace(checkpoints, 1, model, center, ignore, budget))
