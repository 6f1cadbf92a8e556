"""Subspaces along eigenvectors of the Hessian of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from steppe.landscapes.buffers import buffers_of
from steppe.landscapes.directions.eigen import EigenSettings, eigen_directions
from steppe.landscapes.subspaces.abstract import Axis
from steppe.objective import Objective, check_objective
from steppe.parameters import unflatten

UNITS: dict[Any, str] = {"absolute": "distance", "step": "steps of SGD"}  # in words


def eigen_subspace(
    objective: Objective, indices: Sequence[int], **settings: Unpack[EigenSettings]
) -> dict[str, Any]:
    """Fields of a subspace through the present parameters along eigenvectors.

    Args:
        objective: the mean loss.
        indices: of the eigenpairs, one for each axis.
        **settings: see `EigenSettings`.
    """
    check_objective(objective, "eigen")
    vectors, details = eigen_directions(objective, indices, **settings)
    base = tuple(p.detach().clone() for p in objective.params)
    directions = []
    for vector in vectors.unbind(1):
        pieces = zip(unflatten(vector, base), base, strict=True)
        directions.append(tuple(v.to(p, copy=True) for v, p in pieces))
    return {
        "names": objective.names,
        "base": base,
        "directions": tuple(directions),
        "axes": tuple(
            Axis(unit=_unit(details["unit"], value)) for value in details["eigenvalues"]
        ),
        "buffers": buffers_of(objective.model),
        "details": details,
    }


def _unit(unit: Any, value: float) -> str:
    length = UNITS.get(unit, f"lengths of {unit}")
    return f"{length}, eigenvalue {value:.3g}"
