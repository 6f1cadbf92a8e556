"""Whether a network keeps its outputs when its layers are rescaled.

Positive factors on the activations between the layers of a ReLU network, taken back by
the next layer, leave its function as it is: such a network is positively homogeneous.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from steppe.curvature.per_sample.rules import shift
from steppe.curvature.products.context import twice_differentiable
from steppe.curvature.products.outputs import split_at_outputs
from steppe.errors import UsageError
from steppe.graphs.graph_attributes import norm_weight
from steppe.graphs.network_graph import FIXED, Structure, Use, structure
from steppe.objective import Objective
from steppe.results import Cost


def check_homogeneous(network: Structure) -> None:
    """Refuse a network that is not positively homogeneous in each layer."""
    for reason in (*network.not_piecewise_linear, *network.not_homogeneous):
        raise UsageError(
            "minimum sharpness needs a positively homogeneous network, such as one of "
            f"ReLU, pooling and linear layers, but this one has {reason}; replace that "
            "operation, or measure the trace."
        )
    for name in network.repeated:
        raise UsageError(
            "minimum sharpness needs a layer of its own for every parameter, but "
            f"{name} is used more than once; measure the trace instead."
        )


def check_rescaling(objective: Objective) -> None:
    """Refuse a network whose outputs change under rescaling, whatever its graph says.

    The graph does not show all constants, such as the value of a padding. The outputs
    do not change where, for each stream, their derivatives along what writes to it and
    along what reads from it are the same.
    """
    with objective.measuring(), twice_differentiable(objective.model):
        z = split_at_outputs(objective, 0).z
        if not z.requires_grad:  # no parameter has an influence
            return
        source = torch.Generator().manual_seed(0)
        seed = torch.randn(
            z.shape, generator=source, dtype=torch.float64, device="cpu"
        ).to(z)
        network = structure(
            z, dict(zip(objective.params, objective.names, strict=True))
        )
        slopes = torch.autograd.grad(
            z, objective.params, seed, retain_graph=True, materialize_grads=True
        )
        with torch.no_grad():
            written, read = _along(network, objective, slopes)
    objective.cost += Cost(gradients=1 / len(objective.batches))
    balance, size = [0.0] * network.streams, [0.0] * network.streams
    for link in network.links:
        balance[link.target] += written[link.name]
        size[link.target] += abs(written[link.name])
        if not link.bias:
            balance[link.source] -= read[link.name]
            size[link.source] += abs(read[link.name])
    # Euler's identity: where scaling a stream up and its readers down changes nothing,
    # the derivatives along both are equal.
    near = torch.finfo(objective.dtype).eps ** 0.5
    for link in network.links:
        at = link.target
        if at != FIXED and abs(balance[at]) > near * size[at]:
            raise UsageError(
                "minimum sharpness needs a positively homogeneous network, but here "
                f"rescaling the layer of {link.name} changes the outputs, as by a "
                "padding with another value than 0; remove that, or measure the trace."
            )


def _along(
    network: Structure, objective: Objective, slopes: Sequence[Tensor]
) -> tuple[dict[str, float], dict[str, float]]:
    """Derivatives along each parameter, and along the weight that an input meets.

    These differ for batch norm: its weight w moves its bias b - w m / s, too.
    """
    by_name = dict(zip(objective.names, slopes, strict=True))
    pairs = zip(objective.names, objective.params, strict=True)
    written = {name: _dot(by_name[name], p) for name, p in pairs}
    read = dict(written)
    biases = {u.operation: u.name for u in network.uses if _is(u, slot=2)}
    for use in network.uses:
        if _is(use, slot=1):
            node = use.operation
            moved = norm_weight(node) * shift(node)
            read[use.name] += _dot(by_name[biases[node]], moved)
    return written, read


def _is(use: Use, slot: int) -> bool:
    return use.kind == "batch_norm" and use.slot == slot


def _dot(one: Tensor, other: Tensor) -> float:
    return float((one.double() * other.double()).sum())
