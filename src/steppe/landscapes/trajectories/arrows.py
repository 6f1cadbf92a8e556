"""Displacements at points of a subspace: gradients, steps of an optimizer, any other.

A picture shows their part within the subspace alone; the share of the norm that points
out of it is a number of each arrow.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from steppe.errors import SettingError, brief, check_positive
from steppe.landscapes.buffers import BatchNorm
from steppe.landscapes.evaluation.walk import Walk
from steppe.landscapes.subspaces.abstract import Point, Subspace
from steppe.landscapes.trajectories.least_squares import LeastSquares
from steppe.objective import Objective, check_objective
from steppe.state_dicts import check_shapes
from steppe.surfaces import Arrow

Displacement = Mapping[str, Tensor] | Sequence[Tensor]


def arrow(
    subspace: Subspace,
    displacement: Displacement,
    at: Sequence[float] | None = None,
    *,
    name: str = "",
) -> Arrow:
    """A displacement of the parameters as an arrow on a subspace.

    Args:
        subspace: a line, plane or box.
        displacement: such as an optimizer's next step: tensors by the names of the
            parameters, or P of them in the order of `subspace.names`.
        at: coordinates of the point that it starts from; None for the base point.
        name: of the arrow, in legends.

    Returns:
        Arrow to the nearest displacement within the subspace, with the share of the
        norm that points out of it.

    Raises:
        SettingError: a curve, tensors of other shapes, or not one coordinate for each
            axis.
        UsageError: directions that are 0 or dependent.

    Example:
        >>> import steppe, torch
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> x, y = (torch.tensor([row]) for row in ([3.0, 0.0], [0.0, 2.0]))
        >>> base = model.weight.detach().clone()
        >>> axes = (steppe.Line.random(model).axes[0],)
        >>> line = steppe.Line(
        ...     names=("weight",), base=(base,), directions=((x,),), axes=axes
        ... )
        >>> step = steppe.arrow(line, [x + y])
        >>> step.vector, round(step.outside, 6)
        ((1.0,), 0.5547)
    """
    return _arrow(LeastSquares(subspace), displacement, at, name)


def gradient_arrows(
    objective: Objective,
    subspace: Subspace,
    points: Sequence[Sequence[float]],
    *,
    lr: float = 1.0,
    batch_norm: BatchNorm | None = None,
    name: str = "negative gradient",
) -> list[Arrow]:
    """Steps of gradient descent at points of a subspace, as arrows.

    The gradient is that of the mean loss by all parameters, and its part within the
    subspace is the nearest displacement, not the gradient of the surface: the two
    differ in length where the directions are no unit vectors.

    Args:
        objective: the mean loss; its model is moved and put back bit for bit.
        subspace: a line, plane or box.
        points: coordinates of each point, one for each axis.
        lr: the step is this number times the negative gradient.
        batch_norm: running statistics at a point; see `landscape`.
        name: of the arrows, in legends.

    Raises:
        SettingError: a curve, or a subspace of another model.
        UsageError: directions that are 0 or dependent.
    """
    check_objective(objective, "gradient_arrows")
    check_positive("lr", lr)
    solver = LeastSquares(subspace)
    subspace.check_belongs(objective)
    places = [_place(subspace, point) for point in points]
    chosen = subspace.batch_norm if batch_norm is None else batch_norm
    if objective.mode == "reestimate":
        chosen = "reestimate"
    steps = []
    with Walk(objective, subspace, chosen).begun() as walk:
        for place in places:
            walk.go_to(place, walk.buffers_at(place))
            gradient = zip(objective.names, objective.gradient(), strict=True)
            steps.append({n: -lr * g.double().cpu() for n, g in gradient})
    return [
        _arrow(solver, step, place, name)
        for step, place in zip(steps, places, strict=True)
    ]


def _arrow(
    solver: LeastSquares,
    displacement: Displacement,
    at: Sequence[float] | None,
    name: str,
) -> Arrow:
    subspace = solver.subspace
    tensors = _by_name(subspace, displacement)
    vector, left, total = solver.coordinates(
        lambda: (tensors[n].detach().cpu().double() for n in subspace.names)
    )
    return Arrow(
        start=_place(subspace, subspace.origin if at is None else at),
        vector=tuple(vector.tolist()),
        outside=left / total if total else math.nan,
        norm=total,
        name=name,
    )


def _by_name(subspace: Subspace, displacement: Displacement) -> Mapping[str, Tensor]:
    own = dict(zip(subspace.names, subspace.base, strict=True))
    if not isinstance(displacement, Mapping):
        tensors = list(displacement)
        if len(tensors) != len(own):
            raise SettingError(
                f"a displacement must have {len(own)} tensors, one for each parameter "
                f"of the subspace, got {len(tensors)}."
            )
        displacement = dict(zip(own, tensors, strict=True))
    check_shapes("the displacement", own, displacement)
    return displacement


def _place(subspace: Subspace, point: Sequence[float]) -> Point:
    place = tuple(map(float, point))
    if len(place) != len(subspace.axes):
        raise SettingError(
            f"a point must have {len(subspace.axes)} coordinates, got {brief(point)}."
        )
    return place
