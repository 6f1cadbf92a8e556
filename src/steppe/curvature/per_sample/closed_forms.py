"""Exact traces and diagonals, for networks that have a closed form.

Shape letters: C outputs of a sample, D parameters in all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from steppe.curvature.per_sample.traces import (
    exact_diagonal,
    layer_traces,
    network_structure,
)
from steppe.errors import SteppeError
from steppe.objective import Objective
from steppe.results import Diagonal, Estimate

OUTPUTS = 100  # up to so many, a backward pass for each is cheaper than drawing


def known_trace(
    objective: Objective,
    names: Sequence[str],
    *,
    hessian: bool,
    shifts: Mapping[str, float],
) -> Estimate | None:
    """Trace of the GGN or of the Hessian of the loss terms, plus that of penalties.

    Args:
        objective: the mean loss.
        names: of the parameters.
        hessian: whether it is to be that of the Hessian.
        shifts: added to every entry of the diagonal, by the name of the parameter.

    Returns:
        An Estimate without doubt, with one for each tensor in its details; None where
        the network has operations for which there is no exact way, or many outputs,
        or where it is not finite.
    """
    if not _suits(objective, hessian=hessian):
        return None
    try:
        traces = layer_traces(objective, params=names)
    except SteppeError:
        return None
    if hessian and not traces.exact_hessian:
        return None
    sizes = dict(zip(objective.names, objective.params, strict=True))
    tensors = {
        name: Estimate(value=value + shifts[name] * sizes[name].numel())
        for name, value in traces.by_tensor.items()
    }
    return Estimate(
        value=sum(tensor.value for tensor in tensors.values()),
        cost=traces.cost,
        details={"method": "exact", "by_tensor": tensors},
    )


def known_diagonal(
    objective: Objective,
    names: Sequence[str],
    *,
    hessian: bool,
    shifts: Mapping[str, float],
) -> Diagonal | None:
    """Diagonal of the GGN or of the Hessian; see `known_trace`."""
    if not _suits(objective, hessian=hessian):
        return None
    before = objective.cost
    try:
        values = exact_diagonal(objective, params=names, hessian=hessian)
    except SteppeError:
        return None
    params = dict(zip(objective.names, objective.params, strict=True))
    each = [
        torch.full((params[n].numel(),), shifts[n], device="cpu").to(values)
        for n in names
    ]
    values = values + torch.cat(each)
    return Diagonal(
        values=values,
        stderr=torch.zeros_like(values),
        samples=0,
        cost=objective.cost - before,
        details={"method": "exact"},
    )


def _suits(objective: Objective, *, hessian: bool) -> bool:
    try:
        network, outputs = network_structure(objective)
    except SteppeError:
        return False
    # Where every output is piecewise affine in each parameter, the diagonals of the
    # Gauss-Newton matrix and of the Hessian are the same.
    return outputs <= OUTPUTS and not (hessian and network.why_not_piecewise_linear())
