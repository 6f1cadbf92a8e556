"""Product of the norms of the layers, with the margin or without.

Source: Jiang et al., 2020, arXiv:1912.02178; Equations 31, 32 and 34 to 39 by the
numbers that the code of Dziugaite et al., 2020, arXiv:2010.11924, refers to.

Shape letters: d layers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from steppe.cost import Cost
from steppe.measures.abstract import MEASURES, AbstractMeasure
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import Margins, tenth_percentile
from steppe.measures.needs.weights.layers import (
    Convolution,
    Norm,
    NormsOfLayers,
    log_product,
    published_adjustment,
)
from steppe.results import Estimate

Form = Literal["log_product", "sum"]


@MEASURES.add(
    "norm_product",
    source="Jiang et al., 2020, arXiv:1912.02178",
    units="nats (log_product), squared parameter (sum)",
    invariant_to=("layer_rescaling", "last_layer_rescaling", "unit_permutation"),
    needs=("folded weights", "layers", "norms of layers"),
    cost=Cost(forwards=1),
    cost_is="at most",
    cost_note="one batch; with margin, another pass",
)
@dataclass(frozen=True, kw_only=True)
class NormProduct(AbstractMeasure):
    """Logarithm of the product of the squared norms of all layers.

    Layers are the weights of linear layers, convolutions and embeddings, with evaluated
    batch norm folded into them. Biases, layer norms and whatever else is no such weight
    are left out, and named in the details.

    The published names are prod-of-spec and prod-of-fro (`form` "log_product"),
    sum-of-spec and sum-of-fro (`form` "sum"), each over margin with `margin`. The
    "sum" is d times the geometric mean of the squared norms, which is their sum once
    the layers are rescaled to equal norms. The details hold the norms `by_layer`, and
    `adjusted` as the published tables have it: (log v - log m) / 2 for m loss terms.

    Difference from the published code: its spectral norm of a convolution is that of
    the matrix or of the circular convolution.

    Args:
        norm: "spectral" or "frobenius".
        form: "log_product" or "sum".
        margin: divide the product by the squared margin of `inverse_margin`.
        convolution: spectral norm of a convolution: of the "operator" between its
            inputs and outputs, with stride and padding, of the "matrix" (outputs,
            inputs times kernel size), or "circular", as on images that go on around
            the edges.
    """

    norm: Norm = "spectral"
    form: Form = "log_product"
    margin: bool = False
    convolution: Convolution = "operator"

    def needs(self) -> Sequence[Need[Any]]:
        """The norms, and the margins."""
        norms = NormsOfLayers(self.norm, convolution=self.convolution)
        return [norms, *([Margins()] if self.margin else [])]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Multiply."""
        norms = measurement.of(NormsOfLayers(self.norm, convolution=self.convolution))
        log = log_product(norms)
        details: dict[str, Any] = {"by_layer": norms.by_layer}
        if self.margin:
            details["percentile"] = margin = tenth_percentile(measurement.of(Margins()))
            log -= 2 * math.log(abs(margin))
        count = len(norms.by_layer)
        if self.form == "sum":
            log = math.log(count) + log / count
        terms = measurement.objective.count()
        return Estimate(
            value=math.exp(log) if self.form == "sum" else log,
            converged=norms.converged,
            details=details | published_adjustment(log, terms, log=True),
        )
