"""Batch sharpness: the curvature of a batch along its own gradient, on average.

Source: Andreyev and Beneventano, 2024, arXiv:2412.20553.

Shape letters: D parameters in all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.curvature.double_backward.mode import FastDoubleBackward
from steppe.curvature.products.autograd import check_differentiable
from steppe.curvature.products.context import twice_differentiable
from steppe.curvature.products.retained import GradientGraph
from steppe.errors import UsageError
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.objective import Objective
from steppe.parameters import flatten
from steppe.registry.bounds import Ranges, at_least
from steppe.results import Estimate
from steppe.samples import regrouped, row_count


@MEASURES.add(
    "batch_sharpness",
    source="Andreyev and Beneventano, 2024, arXiv:2412.20553",
    units="loss per squared parameter",
    invariant_to=("unit_permutation",),
    needs=("outputs",),
    cost=Cost(forwards=1, gradients=1, products=1),
)
@dataclass(frozen=True, kw_only=True)
class BatchSharpness(AbstractMeasure):
    """Batch sharpness: mean of g'Hg / |g|^2 over batches of m samples.

    Gradient g and Hessian H are those of the loss of the batch, with the penalty of the
    objective. Its edge of stability in SGD without momentum is 2 over the learning
    rate, where the largest eigenvalue lies below.

    All rows are dealt at random to batches of m, each row to one; rows that are left
    over are in none, and the order follows from the seed. So the standard error is that
    of a mean over independent batches; it is infinite for one batch. Difference from
    the paper, which draws batches along a training: here they are drawn at fixed
    weights.

    Args:
        batch_size: samples m of a batch, at least 1: that of the training. Where the
            data has fewer samples, all of them are one batch.
    """

    bounds: ClassVar[Ranges] = {"batch_size": at_least(1)}

    batch_size: int = 16

    def needs(self) -> Sequence[Need[Any]]:
        """The loss terms."""
        return [LossTerms()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Multiply once for each batch."""
        measurement.of(LossTerms())  # refuses data without loss terms
        objective = measurement.objective
        objective.check_repeatable()
        rows = row_count(objective)
        size = min(self.batch_size, rows)
        order = torch.randperm(rows, generator=self.stream(measurement), device="cpu")
        groups = torch.split(order[: rows - rows % size], size)
        curvatures = _curvatures(regrouped(objective, groups))
        share = len(groups) * size / rows
        objective.cost += Cost(gradients=share, products=share)
        number = len(curvatures)
        return Estimate(
            value=float(curvatures.mean()),
            stderr=float(curvatures.std()) / number**0.5 if number > 1 else math.inf,
            samples=number,
            details={"rows_of_a_batch": size},
        )


def _curvatures(objective: Objective) -> Tensor:
    """Curvature of each batch with loss terms along its gradient, float64."""
    penalty, params = objective.penalty, objective.params
    curvatures = []
    shifts = flatten(
        [
            torch.full_like(p, penalty.curvature(p) if penalty else 0.0).detach()
            for p in params
        ]
    )
    weights = flatten([p.detach() for p in params])
    with objective.measuring(), twice_differentiable(objective.model):
        for index in range(len(objective.batches)):
            with FastDoubleBackward():
                losses = objective.batch_losses(index)
                if not len(losses):  # all targets are ignored
                    continue
                graph = GradientGraph(losses.mean().unsqueeze(0), params)
            check_differentiable(graph.tensors)
            gradient = shifts * weights
            if len(graph.tensors) > 1:  # else no parameter has an influence
                gradient = gradient + flatten([g.detach() for g in graph.tensors[1:]])
            norm = float(torch.linalg.vector_norm(gradient))
            if not norm:
                raise UsageError(
                    "batch sharpness needs batches whose gradient is not zero, but "
                    f"batch {index} of {len(losses)} terms has none; measure at other "
                    "weights, or take larger batches."
                )
            along = gradient / norm
            product = (shifts * along).unsqueeze(0)
            graph.add_products(along.unsqueeze(0), product)
            curvatures.append(float(along.double() @ product[0].double()))
    return torch.tensor(curvatures, dtype=torch.float64, device="cpu")
