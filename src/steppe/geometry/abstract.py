"""Geometry: maps gradients to a perturbation of a given radius."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from steppe.registry.bounds import Bounds, Ranges
from steppe.registry.composed import register_reader
from steppe.registry.registry import Registry
from steppe.registry.specs import Spec
from steppe.schedules import Schedule
from steppe.stepping.context import StepContext
from steppe.vectors import joint_norm

GEOMETRIES: Registry[Spec] = Registry("geometry", Spec)


class Geometry(ABC):
    """Turns gradients into perturbations of a given radius."""

    bounds: ClassVar[Ranges] = {}  # of the settings that are numbers
    in_groups: ClassVar[
        Bounds
    ] = {}  # of those that live in the groups, as schedules do
    tells_length: ClassVar[bool] = False  # its norm is the L2 norm of the gradients

    def settings(self) -> dict[str, float | Schedule]:
        """Values or schedules of its own settings, by name."""
        return {name: getattr(self, name) for name in self.in_groups}

    @abstractmethod
    def ascent_(
        self,
        step: StepContext,
        params: list[Tensor],
        grads: list[Tensor],
        rho: Sequence[float],
    ) -> tuple[list[Tensor], Tensor]:
        """Turn gradients into perturbations, in place and without a host sync.

        A zero gradient gives zero; on a CPU, so does one that is not finite.

        Args:
            step: the running one; settings, states of the base and names.
            params: P parameters.
            grads: P gradients of theirs; destroyed.
            rho: P radii.

        Returns:
            P perturbations, and a norm that is finite if and only if the gradients are.
        """


register_reader(Geometry, GEOMETRIES)


def signs_(grads: list[Tensor], rho: Sequence[float], norm: Tensor) -> list[Tensor]:
    """Replace gradients by rho times their sign, in place.

    On a CPU, gradients whose norm is not finite give zero; elsewhere NaN stays NaN.
    """
    if norm.device.type == "cpu" and not norm.isfinite():
        torch._foreach_zero_(grads)
    elif grads:
        torch._foreach_sign_(grads)
        torch._foreach_mul_(grads, list(rho))
    return grads


def each_scaled_(grads: list[Tensor], radii: Sequence[float]) -> Tensor:
    """Give every tensor a length of its own, in place.

    A zero tensor stays zero; on a CPU, all become zero if any is not finite.

    Args:
        grads: P tensors.
        radii: P lengths.

    Returns:
        The joint norm before.
    """
    norms = [joint_norm([g]) for g in grads]
    norm = joint_norm(norms)
    if norm.device.type == "cpu" and not norm.isfinite():
        torch._foreach_zero_(grads)
        return norm
    if grads:
        torch._foreach_add_(norms, 1e-12)
        torch._foreach_reciprocal_(norms)
        torch._foreach_mul_(norms, list(radii))
        torch._foreach_mul_(grads, norms)
    return norm
