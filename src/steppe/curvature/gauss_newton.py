"""Matrices J' M J, with J the Jacobian of the outputs by the parameters."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any

from torch import Tensor

from steppe.curvature.double_backward.corrections import padded_tables
from steppe.curvature.operator import AbstractCurvature
from steppe.curvature.products.finite_differences import JacobianDifferences
from steppe.curvature.products.functional import JacobianMap
from steppe.curvature.products.retained import (
    AbstractBatchProduct,
    JacobianGraph,
    Metric,
)


class AbstractGaussNewton(AbstractCurvature):
    """A sum over batches of J' M J, with a metric M of the outputs."""

    @abstractmethod
    def _outputs(self, batch: Any) -> Tensor:
        """Outputs whose Jacobian is J, for one batch on the device."""

    @abstractmethod
    def _linearised(self, index: int) -> tuple[Tensor, Metric]:
        """The same outputs with their graph, and products with M."""

    def _batch_product(self, index: int) -> AbstractBatchProduct:
        if self.backend == "func":
            _, metric = self._linearised(index)
            functional = self._functional(self._outputs)
            fetch = partial(self.objective.batch, index)
            return JacobianMap(functional, fetch, metric)
        if self.backend == "finite_difference":
            _, metric = self._linearised(index)
            run = partial(self._rerun, index)
            padded = padded_tables(self.objective.model)
            return JacobianDifferences(metric, run, self.params, padded)
        return self._graphs.get(
            index, lambda: JacobianGraph(*self._linearised(index), self.params)
        )

    def _rerun(self, index: int) -> Tensor:
        return self._outputs(self.objective.batch(index))
