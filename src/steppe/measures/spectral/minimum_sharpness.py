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
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.curvature.per_sample.rescaling import check_homogeneous, check_rescaling
from steppe.curvature.per_sample.traces import folded_traces, network_structure
from steppe.errors import (
    SettingError,
    UsageError,
    check_choice,
    check_count,
    check_positive,
)
from steppe.graphs.network_graph import FIXED, Structure
from steppe.linalg.geometric_program import Solution, Term, solve
from steppe.linalg.published_descent import descend
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.spectrum.diagonals import FoldedDiagonal
from steppe.objective import Objective, check_objective
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate

Solver = Literal["newton", "reference"]
BatchNorm = Literal["affine", "ignored"]


@MEASURES.add(
    "minimum_sharpness",
    source="Ibayashi, Hamaguchi and Imaizumi, 2021, arXiv:2106.12612",
    units="loss per squared parameter",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    needs=("diagonal",),
    cost=Cost(gradients=12),
    cost_is="about",
    cost_note="a backward pass for each output of the network, here 10, and two more",
    networks="homogeneous",
)
@dataclass(frozen=True, kw_only=True)
class MinimumSharpness(AbstractMeasure):
    """Smallest trace of the Hessian among rescalings of the layers of a ReLU network.

    Args:
        biases: count the traces by biases, too.
        samples: draws in place of one backward pass for each output of the network,
            worth it for more than about 100; 0 for the exact traces.
    """

    bounds: ClassVar[Ranges] = {"samples": at_least(0)}

    biases: bool = True
    samples: int = 0

    def needs(self) -> Sequence[Need[Any]]:
        """The diagonal of the Hessian; traces that are drawn are of this measure."""
        return [] if self.samples else [FoldedDiagonal()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Add up the traces layer by layer, and find their exact minimum."""
        return _minimum(
            measurement,
            biases=self.biases,
            samples=self.samples or None,
            generator=self.stream(measurement),
        )


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
            convolutions, evaluated batch norm, ReLU, pooling, sums of branches. A
            penalty, which rescaling changes, is left out.
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
        of their weight, and the `iterations` of the solver; of the solver "reference"
        also the `descent`, pairs of steps and sums after them, about 200.

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
    return _minimum(
        Measurement(objective),
        solver=solver,
        biases=biases,
        batch_norm=batch_norm,
        lr=lr,
        epochs=epochs,
        samples=samples,
        generator=generator,
    )


def _minimum(
    measurement: Measurement,
    *,
    solver: Solver = "newton",
    biases: bool = True,
    batch_norm: BatchNorm = "affine",
    lr: float = 0.1,
    epochs: int = 10_000,
    samples: int | None = None,
    generator: torch.Generator | None = None,
) -> Estimate:
    objective = measurement.objective
    before = objective.cost
    objective.check_repeatable()
    # Before the traces, which take a backward pass for each output.
    check_homogeneous(network_structure(objective)[0])
    check_rescaling(objective)
    if samples is None:
        diagonal = measurement.of(FoldedDiagonal())
        network = diagonal.network
        sums = {name: t.sum().cpu() for name, t in diagonal.by_tensor.items()}
        draws = {name: trace.view(1) for name, trace in sums.items()}
    else:
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
        # Without the traces of batch norm the sum has no minimum to arrive at.
        converged=solution.converged and batch_norm == "affine",
        cost=objective.cost - before,
        details={
            **objective.term_details,
            "solver": solver,
            "biases": biases,
            "batch_norm": batch_norm,
            "trace": sum(term.trace for term in terms),
            "iterations": solution.iterations,
            "scales": _scales(network, solution),
            **({"descent": solution.path} if solution.path else {}),
        },
    )


def _check(solver: str, batch_norm: str, lr: float, epochs: int) -> None:
    check_choice("solver", solver, get_args(Solver))
    check_choice("batch_norm", batch_norm, get_args(BatchNorm))
    if batch_norm == "ignored" and solver == "newton":
        raise SettingError(
            "batch_norm='ignored' must go with solver='reference', got 'newton': the "
            "sum without traces of batch norm has no minimum; use batch_norm='affine'."
        )
    check_positive("lr", lr)
    check_count("epochs", epochs, 1)


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
    # At a minimum the sum does not change with the scales, so their own error is of
    # second order. One draw serves all layers: errors are those of the sum.
    pairs = zip(terms, shares, strict=True)
    sums = torch.stack([draws[term.name] * share for term, share in pairs]).sum(0)
    return float(sums.std()) / math.sqrt(len(sums)) if len(sums) > 1 else math.inf


def _chain(network: Structure) -> list[int]:
    """The streams between layers that follow each other, in their order."""
    layers = [k for k in network.links if not k.bias and k.source != k.target]
    after = {link.source: link.target for link in layers}
    order: list[int] = []
    here = after.get(FIXED, FIXED)
    # A loop that never comes back to the outputs would not end by itself.
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
