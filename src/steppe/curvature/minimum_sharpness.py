"""Minimum sharpness: the smallest Hessian trace among rescalings of the network.

Positive factors on the activations between the layers of a ReLU network, taken back by
the next layer, leave its function as it is and move the trace of the Hessian. Minimum
sharpness is the smallest such trace, so that no rescaling can change it.

Source: Ibayashi, Hamaguchi and Imaizumi, 2021, arXiv:2106.12612. Here the minimum is
exact; networks with branches have one factor for all that is added up; an
evaluated batch norm is a layer with the weight w / s and the bias b - w m / s, whose
statistics m and s follow the layer before. The published variant with batch norm leaves
these layers out of the sum, which then has no minimum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from steppe.curvature.per_sample.network_graph import FIXED, Structure, Use, structure
from steppe.curvature.per_sample.rules import shift
from steppe.curvature.per_sample.traces import folded_traces, network_structure
from steppe.curvature.products.context import twice_differentiable
from steppe.curvature.products.loss_curvature import cut
from steppe.errors import SettingError, UsageError, check_count, check_positive
from steppe.linalg.geometric_program import Solution, Term, descend, solve
from steppe.objective import Objective, check_objective
from steppe.results import Cost, Estimate

Solver = Literal["newton", "reference"]
BatchNorm = Literal["affine", "ignored"]


def minimum_sharpness(
    objective: Objective,
    *,
    solver: Solver = "newton",
    biases: bool = True,
    batch_norm: BatchNorm = "affine",
    lr: float = 0.1,
    epochs: int = 10_000,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    """Smallest trace of the Hessian among rescalings that keep the network's function.

    The traces are exact, from one backward pass for each output, and so is the minimum
    of the solver "newton".

    Args:
        objective: the mean loss of a positively homogeneous network: linear layers,
            convolutions, evaluated batch norm, ReLU, pooling, sums of branches.
        solver: "newton", or "reference" for the published descent, which ends above
            the minimum, and on chains of layers only.
        biases: count the traces by biases, too; they are moved along either way.
        batch_norm: "affine", or "ignored" for the published variant that counts no
            trace of batch norm; it has no minimum, its value tells how far the
            descent came, and so it goes with the solver "reference" alone.
        lr: step size of the solver "reference"; the published runs took 0.001.
        epochs: of the solver "reference".
        samples: draws in place of one pass for each output, as in `layer_traces`. The
            minimum over traces with errors is a little low: by about the square of
            their relative errors.
        generator: of the draws; None for seed 0 on the CPU.

    Returns:
        The minimum, in units of loss per squared parameter, with the standard error
        that those of the traces give it. The details hold the
        `trace` without rescaling, the `scales` of the outputs of all layers by the name
        of their weight, and the `iterations` of the solver.

    Raises:
        SettingError: an unknown or ill-posed choice, or a layer with zero trace.
        UsageError: a network that is not positively homogeneous, or that has a
            parameter used twice or in an operation without a rule.
        DataError: the loss of a sample is not convex in the outputs.
    """
    _check(solver, batch_norm, lr, epochs)
    check_objective(objective, "minimum_sharpness")
    if samples is not None:
        check_count("samples", samples, 1)
    before = objective.cost
    objective.check_repeatable()
    _check_network(network_structure(objective)[0])
    _check_rescaling(objective)
    draws, network = folded_traces(objective, samples, generator)
    terms = _terms(network, draws, biases, batch_norm)
    if solver == "newton":
        solution = solve(terms, network.streams)
    else:
        solution = descend(terms, _chain(network), lr, epochs)
    return Estimate(
        value=solution.value,
        stderr=_error(terms, draws, solution) if samples else 0.0,
        samples=samples or 0,
        converged=solution.converged and batch_norm == "affine",
        cost=objective.cost - before,
        details={
            **objective.details,
            "solver": solver,
            "biases": biases,
            "batch_norm": batch_norm,
            "trace": sum(term.trace for term in terms),
            "iterations": solution.iterations,
            "scales": _scales(network, solution),
        },
    )


def _check(solver: str, batch_norm: str, lr: float, epochs: int) -> None:
    if solver not in get_args(Solver):
        raise SettingError(f"solver must be 'newton' or 'reference', got {solver!r}.")
    if batch_norm not in get_args(BatchNorm):
        raise SettingError(
            f"batch_norm must be 'affine' or 'ignored', got {batch_norm!r}."
        )
    if batch_norm == "ignored" and solver == "newton":
        raise SettingError(
            "batch_norm='ignored' must go with solver='reference', got 'newton': the "
            "sum without traces of batch norm has no minimum; use batch_norm='affine'."
        )
    check_positive("lr", lr)
    check_count("epochs", epochs, 1)


def _check_network(network: Structure) -> None:
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


def _check_rescaling(objective: Objective) -> None:
    """Refuse a network whose outputs change under rescaling, whatever its graph says.

    The graph does not show all constants, such as the value of a padding. The outputs
    do not change where, for each stream, their derivatives along what writes to it and
    along what reads from it are the same.
    """
    with objective.measuring(), twice_differentiable(objective.model):
        z = cut(objective, 0).z
        if not z.requires_grad:  # no parameter has an influence
            return
        source = torch.Generator().manual_seed(0)
        seed = torch.randn(z.shape, generator=source, dtype=torch.float64).to(z)
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
            node: Any = use.operation
            slope = by_name[biases[node]]
            read[use.name] += _dot(slope, node._saved_weight * shift(node))
    return written, read


def _is(use: Use, slot: int) -> bool:
    return use.kind == "batch_norm" and use.slot == slot


def _dot(one: Tensor, other: Tensor) -> float:
    return float((one.double() * other.double()).sum())


def _terms(
    network: Structure,
    draws: Mapping[str, Tensor],
    biases: bool,
    batch_norm: BatchNorm,
) -> list[Term]:
    norms = {use.name for use in network.uses if use.kind == "batch_norm"}
    left_out = norms if batch_norm == "ignored" else set()
    return [
        Term(float(draws[link.name].mean()), link.source, link.target, link.name)
        for link in network.links
        if (biases or not link.bias) and link.name not in left_out
    ]


def _error(
    terms: Sequence[Term], draws: Mapping[str, Tensor], solution: Solution
) -> float:
    """Standard error of a minimum: that of the sum at its scales, to first order."""
    shares = [
        (solution.scales[t.source] / solution.scales[t.target]) ** 2 for t in terms
    ]
    pairs = zip(terms, shares, strict=True)
    sums = torch.stack([draws[term.name] * share for term, share in pairs]).sum(0)
    return float(sums.std()) / math.sqrt(len(sums)) if len(sums) > 1 else math.inf


def _chain(network: Structure) -> list[int]:
    """The streams between layers that follow each other, in their order."""
    layers = [k for k in network.links if not k.bias and k.source != k.target]
    after = {link.source: link.target for link in layers}
    order: list[int] = []
    here = after.get(FIXED, FIXED)
    while here != FIXED and len(order) < network.streams:
        order.append(here)
        here = after.get(here, FIXED)
    if len(order) != network.streams - 1 or len(layers) != len(after):
        raise UsageError(
            "the solver 'reference' needs layers that follow each other in one chain, "
            "but this network has branches; use the solver 'newton'."
        )
    return order


def _scales(network: Structure, solution: Solution) -> dict[str, float]:
    return {
        link.name: solution.scales[link.target]
        for link in network.links
        if not link.bias
    }
