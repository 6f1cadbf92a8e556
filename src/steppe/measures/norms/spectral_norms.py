"""Product of the spectral norms of the layers, with the margin or without.

Source: Jiang et al., 2020, arXiv:1912.02178; Equations 31, 32, 34 and 35 by the
numbers that the code of Dziugaite et al., 2020, arXiv:2010.11924, refers to.

Shape letters: d layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.weights.layers import Convolution, NormsOfLayers
from steppe.measures.needs.weights.norm_products import Form, NormProduct
from steppe.results import Estimate


@MEASURES.add(
    "spectral_norms",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="nats (log_product), squared parameter (sum)",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    needs=("folded weights", "layers", "norms of layers"),
    cost=Cost(forwards=1),
    cost_is="at most",
    cost_note="one batch; with margin, another pass",
)
@dataclass(frozen=True, kw_only=True)
class SpectralNorms(AbstractMeasure):
    """Logarithm of the product of the squared spectral norms of all layers.

    Layers are the weights of linear layers, convolutions and embeddings, with evaluated
    batch norm folded into them. Biases, layer norms and whatever else is no such weight
    are left out, and named in the details.

    The published names are prod-of-spec (`form` "log_product") and sum-of-spec (`form`
    "sum"), each over margin with `margin`. The "sum" is d times the geometric mean of
    the squared norms, which is their sum once the layers are rescaled to equal norms.
    The details hold the norms `by_layer`, and `adjusted` as the published tables have
    it: (log v - log m) / 2 for m loss terms.

    Difference from the published code: its spectral norm of a convolution is that of
    the matrix or of the circular convolution.

    Args:
        form: "log_product" or "sum".
        margin: divide the product by the squared margin of `inverse_margin`.
        convolution: spectral norm of a convolution: of the "operator" between its
            inputs and outputs, with stride and padding, of the "matrix" (outputs,
            inputs times kernel size), or "circular", as on images that go on around
            the edges.
    """

    form: Form = "log_product"
    margin: bool = False
    convolution: Convolution = "operator"

    def needs(self) -> Sequence[Need[Any]]:
        """The norms, and the margins."""
        return self._product().needs()

    def estimate(self, measurement: Measurement) -> Estimate:
        """Multiply."""
        return self._product().estimate(measurement)

    def _product(self) -> NormProduct:
        norms = NormsOfLayers("spectral", convolution=self.convolution)
        return NormProduct(norms, self.form, self.margin)
