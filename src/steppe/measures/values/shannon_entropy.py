"""Shannon entropy of the classes that the network predicts.

Source: Bisla et al., 2022, arXiv:2201.08025, supplement B; Pereyra et al., 2017,
arXiv:1701.06548, on confident predictions. It is no geometry of the loss.

Shape letters: B rows of a batch, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steppe.cost import Cost
from steppe.errors import UsageError
from steppe.losses import class_dimension
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import OverOutputs
from steppe.measuring.evaluation import Evaluation
from steppe.objective import Objective
from steppe.results import Estimate


@dataclass(frozen=True)
class Entropies(OverOutputs[Tensor]):
    """Entropy of the predicted distribution of each loss term, (terms,), float64."""

    def of_batch(self, evaluation: Evaluation, objective: Objective) -> Tensor:
        """Those of one batch; targets that are ignored are no terms.

        Raises:
            UsageError: outputs that are no scores of classes.
        """
        likelihood, z = objective.likelihood, evaluation.outputs
        kinds = ("logits", "log_probabilities")
        if likelihood is None or likelihood.outputs not in kinds:
            raise UsageError(
                "shannon_entropy needs outputs that are scores of classes, which the "
                f"loss '{objective.loss_name}' does not say; give the objective "
                "'cross_entropy' or nll_loss."
            )
        targets = evaluation.batch[1]
        if not isinstance(z, Tensor) or z.dim() < 2:
            raise UsageError(
                "shannon_entropy needs outputs of shape (B, C) from one call of the "
                f"model, got {_shape(z)}; compute the loss from the outputs of the "
                "model itself."
            )
        soft = targets.is_floating_point()
        classes = 1 if soft else class_dimension(z.shape, targets.shape)
        logp = torch.log_softmax(z.detach().double(), classes)
        entropies: Tensor = torch.special.entr(logp.exp()).sum(classes)
        if soft or likelihood.ignored is None:
            return entropies.flatten()
        kept: Tensor = entropies[targets != likelihood.ignored]
        return kept

    def combined(self, batches: Sequence[Tensor]) -> Tensor:
        """All of them, in the order of the data."""
        return torch.cat([*batches])


@MEASURES.add(
    "shannon_entropy",
    source="Bisla et al., 2022, arXiv:2201.08025, supplement B",
    units="nats",
    sharper_is="neither",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("outputs",),
    cost=Cost(forwards=1),
)
@dataclass(frozen=True, kw_only=True)
class ShannonEntropy(AbstractMeasure):
    """Mean entropy of the predicted classes, with its standard error over the samples.

    0 for a network that is sure of every prediction, log C for one that knows nothing.
    A measure of confidence: published among those of flatness, it does not look at the
    parameters around the present ones.
    """

    def needs(self) -> Sequence[Need[Any]]:
        """The entropies."""
        return [Entropies()]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Average; nothing is drawn."""
        entropies = measurement.of(Entropies())
        count = len(entropies)
        spread = float(entropies.std()) / count**0.5 if count > 1 else torch.inf
        return Estimate(value=float(entropies.mean()), stderr=spread, samples=count)


def _shape(outputs: Any) -> str:
    known = isinstance(outputs, Tensor)
    return str(tuple(outputs.shape)) if known else f"a {type(outputs).__name__}"
