"""Product of the Frobenius norms of the layers, with the margin or without.

Source: Jiang et al., 2020, arXiv:1912.02178; Equations 36 to 39 by the numbers
that the code of Dziugaite et al., 2020, arXiv:2010.11924, refers to.

Shape letters: d layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layers import NormsOfLayers
from steppe.measures.needs.weights.norm_products import Form, NormProduct
from steppe.results import Estimate


@MEASURES.add(
    "frobenius_norms",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="nats (log_product), squared parameter (sum)",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    needs=("folded weights", "layers", "norms of layers"),
    cost=Cost(forwards=1),
    cost_is="at most",
    cost_note="one batch; with margin, another pass",
)
@dataclass(frozen=True, kw_only=True)
class FrobeniusNorms(AbstractMeasure):
    """Logarithm of the product of the squared Frobenius norms of all layers.

    The Frobenius norm of a layer is that of all entries of its weight. Layers are those
    of `spectral_norms`.

    The published names are prod-of-fro (`form` "log_product") and sum-of-fro (`form`
    "sum"), each over margin with `margin`. The "sum" is d times the geometric mean of
    the squared norms, which is their sum once the layers are rescaled to equal norms.
    The details hold the norms `by_layer`, and `adjusted` as the published tables have
    it: (log v - log m) / 2 for m loss terms.

    Args:
        form: "log_product" or "sum".
        margin: divide the product by the squared margin of `inverse_margin`.
    """

    form: Form = "log_product"
    margin: bool = False

    def needs(self) -> Sequence[Need[Any]]:
        """The norms, and the margins."""
        return self._product().needs()

    def estimate(self, measurement: Measurement) -> Estimate:
        """Multiply."""
        return self._product().estimate(measurement)

    def _product(self) -> NormProduct:
        return NormProduct(NormsOfLayers("frobenius"), self.form, self.margin)
