"""Fisher-Rao norm: the Fisher information along the parameters themselves.

Source: Liang et al., 2019, arXiv:1711.01530; the published study of Bisla et al., 2022,
arXiv:2201.08025, has the Hessian in place of the Fisher matrix. The derivative of the
outputs along the parameters does not change when layers are rescaled in a way that
keeps the network's function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need, Variant
from steppe.measures.needs.spectrum.curvature import AlongParameters
from steppe.results import Estimate

FisherMatrix = Literal["auto", "fisher", "ggn", "empirical_fisher"]


@MEASURES.add(
    "fisher_rao",
    source="Liang et al., 2019, arXiv:1711.01530, Fisher-Rao norm",
    units="loss",
    invariant_to=(
        "layer_rescaling",
        "unit_rescaling",
        "last_layer_rescaling",
        "unit_permutation",
        "query_key_rescaling",
    ),
    needs=("product with the parameters",),
    cost=Cost(gradients=1, products=1),
)
@dataclass(frozen=True, kw_only=True)
class FisherRao(AbstractMeasure):
    """Fisher-Rao norm: the quadratic form t' F t of the Fisher matrix F at t.

    t are the parameters. The value is the square, as in the source, where the targets
    are those of the data ("empirical_fisher"); the default averages over the targets
    that the network predicts, with less of its errors in it. For a ReLU network of k
    layers without biases it is k^2 times the mean variance of the score that the
    network gives to a class drawn from its prediction.

    The published variant (Bisla et al., 2022, arXiv:2201.08025) is t' H t with the
    Hessian of the loss. It differs by the curvature of the network itself, k (k - 1)
    times the mean of <p - y, f> in that example, and may be negative. Samples weigh
    alike here; there, batches do.

    Args:
        matrix: "fisher" for the targets that the network predicts, of a loss that says
            their distribution; "ggn" for any loss of the outputs; "auto" for the first
            where the loss says a distribution and else the second;
            "empirical_fisher" for the targets given.
        variant: "correct", or "published", which heeds no matrix.
    """

    matrix: FisherMatrix = "auto"
    variant: Variant = "correct"

    def needs(self) -> Sequence[Need[Any]]:
        """None in advance: the matrix may depend on the loss."""
        return []

    def estimate(self, measurement: Measurement) -> Estimate:
        """Multiply once; nothing is drawn."""
        if self.variant == "published":
            return Estimate(value=measurement.of(AlongParameters("hessian")))
        matrix = self.matrix
        if matrix == "auto":
            known = measurement.objective.likelihood is not None
            matrix = "fisher" if known else "ggn"
        value = measurement.of(AlongParameters(matrix))
        return Estimate(value=value, details={"matrix_used": matrix})
