"""Lines through parameter space.

Source: Li et al., 2018, arXiv:1712.09913.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from steppe.landscapes.directions.random import Ignore, Norm
from steppe.landscapes.subspaces.abstract import Subspace
from steppe.landscapes.subspaces.networks import through_networks
from steppe.landscapes.subspaces.random import random_subspace


@dataclass(frozen=True, kw_only=True, repr=False)
class Line(Subspace):
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
    ) -> Line:
        """A random line through the parameters of a model.

        Args:
            model: its parameters that require a gradient are the base point.
            norm: "filter" gives each output row the norm of the parameters' own row,
                "layer" each tensor the norm of its own, "none" keeps the normal draw.
            ignore: "biasbn" leaves tensors of at most one dimension where they are;
                "none" makes each of those its own direction.
            seed: of the draw, whatever was drawn before.

        Raises:
            SettingError: an unknown norm or ignore.
        """
        return cls(**random_subspace(model, [seed], norm, ignore))

    @classmethod
    def between(cls, model_a: nn.Module, model_b: nn.Module) -> Line:
        """The line from one model (coordinate 0) to another (coordinate 1).

        It moves the parameters that require a gradient in `model_a`, and buffers of
        floating-point numbers, such as the running statistics of batch norm, with them:
        both ends are the two models bit for bit (see `landscape` for other ways). All
        other buffers are those of `model_a`, at 1 and beyond those of `model_b`. The
        vectors of a spectral norm move like statistics, though between the ends they
        are not those of the weights: its networks are true at the ends alone.

        Raises:
            SettingError: the models differ in the names or shapes of parameters or
                buffers, or in the values of a parameter that is frozen in `model_a`.
        """
        return cls(**through_networks(model_a, [model_b]))
