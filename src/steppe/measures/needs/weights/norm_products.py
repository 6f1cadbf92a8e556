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

from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import Margins, tenth_percentile
from steppe.measures.needs.weights.layers import (
    NormsOfLayers,
    log_product,
    published_adjustment,
)
from steppe.results import Estimate

Form = Literal["log_product", "sum"]


@dataclass(frozen=True)
class NormProduct:
    """The squared norms of all layers, multiplied.

    Args:
        norms: of the layers.
        form: "log_product" or "sum", which is d times the geometric mean.
        margin: divide the product by the squared margin.
    """

    norms: NormsOfLayers
    form: Form
    margin: bool

    def needs(self) -> Sequence[Need[Any]]:
        """The norms, and the margins."""
        return [self.norms, *([Margins()] if self.margin else [])]

    def estimate(self, measurement: Measurement) -> Estimate:
        """Multiply.

        Raises:
            DataError: there are no layers, or one is 0.
        """
        norms = measurement.of(self.norms)
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
