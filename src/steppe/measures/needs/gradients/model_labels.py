"""Gradients of samples at labels that the network itself predicts.

Shape letters: B rows of a batch, C classes, n samples, N loss terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.curvature.products.context import twice_differentiable
from steppe.curvature.products.loss_curvature import (
    classes_along,
    kept_rows,
    sampled_gradients,
)
from steppe.curvature.products.outputs import Outputs, outputs_on, split_at_outputs
from steppe.errors import UsageError
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.gradients.row_gradients import KindOfSamples, RowGradients
from steppe.measures.needs.outputs.outputs import LossTerms
from steppe.objective import Objective

MOST_CLASSES = 100  # of an expectation that is computed class by class


@dataclass(frozen=True)
class ModelLabelNorms(Need[Tensor]):
    """Squared norms of gradients at the network's own labels, of each sample.

    Args:
        draws: labels that are drawn for each loss term; None for the expectation over
            all classes.
    """

    kind: ClassVar[str] = "gradients at model labels"

    draws: int | None = None

    def serve(self, measurement: Measurement) -> Tensor:
        """Differentiate all samples, once for each class or draw.

        Returns:
            Shape (n,), float64, on the host, scaled by n / N, so that their mean is
            the trace of the Fisher matrix of the mean over the loss terms.

        Raises:
            UsageError: outputs that are no scores of classes, or too many of them.
        """
        objective = measurement.objective
        losses = measurement.of(LossTerms())
        check_classes(objective)
        objective.check_repeatable()
        kind = measurement.of(KindOfSamples())
        rows = RowGradients(objective, kind, lambda batch: outputs_on(objective, batch))
        sources = [
            measurement.stream("model labels", draw) for draw in range(self.draws or 0)
        ]
        squares: list[Tensor] = []
        passes = 0.0
        with objective.measuring(), twice_differentiable(objective.model):
            for index in range(len(objective.batches)):
                outputs = split_at_outputs(objective, index)
                total = torch.zeros(len(outputs.z), dtype=torch.float64, device="cpu")
                for seeds in self._seeds(objective, outputs, sources):
                    chunks = rows.of_outputs(index, seeds)
                    parts = [chunk.double().square().sum(1) for chunk in chunks]
                    total += torch.cat(parts).cpu() / (self.draws or 1)
                    passes += 1 / len(objective.batches)
                squares.append(total[_counted(objective, outputs)])
        objective.cost += Cost(forwards=1, gradients=passes)
        joined = torch.cat(squares)
        return joined * (len(joined) / sum(len(each) for each in losses))

    def _seeds(
        self, objective: Objective, outputs: Outputs, sources: list[torch.Generator]
    ) -> Iterator[Tensor]:
        """Gradients in the outputs, whose second moments add up to the Fisher's."""
        if self.draws is not None:
            for source in sources:
                yield sampled_gradients(objective, outputs, source)
            return
        z = outputs.z.detach()
        if z.dim() != 2 or z.shape[1] > MOST_CLASSES:
            raise UsageError(
                f"the exact trace of the Fisher matrix needs at most {MOST_CLASSES} "
                "classes and one loss term for each row, outputs of shape (rows, "
                f"classes), got {tuple(z.shape)}; draw the labels: draws=1."
            )
        linear = _likelihood_outputs(objective) == "log_probabilities"
        p = z.exp() if linear else z.softmax(1)
        mask = kept_rows(objective, outputs)
        for column in range(z.shape[1]):
            seed = torch.zeros_like(z) if linear else -p
            seed[:, column] += 1
            seed *= p[:, column : column + 1].sqrt()
            yield seed if mask is None else seed * mask


def check_classes(objective: Objective) -> None:
    """Refuse outputs that are no scores of classes.

    Raises:
        UsageError: they are not.
    """
    if _likelihood_outputs(objective) not in ("logits", "log_probabilities"):
        raise UsageError(
            "the trace over labels of the network needs outputs that are scores of "
            f"classes, which the loss '{objective.loss_name}' does not say; give the "
            "objective 'cross_entropy' or nll_loss, or take empirical_fisher_trace, "
            "which takes any loss."
        )


def _likelihood_outputs(objective: Objective) -> str:
    return objective.likelihood.outputs if objective.likelihood else ""


def _counted(objective: Objective, outputs: Outputs) -> Tensor:
    """True for each row with a target that is not ignored, shape (B,)."""
    mask = kept_rows(objective, outputs)
    if mask is None:
        return torch.ones(len(outputs.z), dtype=torch.bool, device="cpu")
    flat = mask.movedim(classes_along(objective, outputs), -1).flatten(1)
    return (flat != 0).any(1).cpu()
