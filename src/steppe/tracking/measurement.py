"""A measurement: the largest eigenpairs and the gradient at the present parameters.

Shape letters: D parameters in all, K eigenpairs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from steppe.curvature.operator import AbstractCurvature
from steppe.errors import UsageError, check_count, check_positive
from steppe.linalg.lanczos import eigsh
from steppe.objective import Objective, check_objective
from steppe.parameters import flatten
from steppe.results import Eigenpairs


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Settings of a search for eigenpairs, and the loss that it is for.

    Args:
        objective: the loss, or a function that makes one for each measurement.
        matrix: operator class, or a function of an Objective.
        k: number of eigenpairs, >= 1.
        tol: of the residuals, > 0.
        max_products: of one search; None as in `eigsh`.

    Raises:
        SettingError: a setting out of range.
    """

    objective: Objective | Callable[[], Objective]
    matrix: Callable[[Objective], AbstractCurvature]
    k: int
    tol: float
    max_products: int | None

    def __post_init__(self) -> None:
        # A model can be called too, but gives no objective.
        if isinstance(self.objective, nn.Module) or not callable(self.objective):
            check_objective(self.objective, "SpectrumTracker")
        check_count("k", self.k, 1)
        check_positive("tol", self.tol)

    @property
    def drawn_anew(self) -> bool:
        """Whether each measurement has an objective of its own."""
        return not isinstance(self.objective, Objective)

    def present(self) -> Objective:
        """The objective to measure now."""
        return (
            self.objective
            if isinstance(self.objective, Objective)
            else self.objective()
        )

    def eigenpairs(self, objective: Objective, start: Tensor | None) -> Eigenpairs:
        """The K largest eigenvalues with their vectors.

        Args:
            objective: of this measurement.
            start: vectors of the measurement before, shape (D, K), or None.

        Raises:
            UsageError: data spread over processes.
        """
        operator = self.matrix(objective)
        if operator.ranks.spread:
            raise UsageError(
                "a tracker follows the data of one process; make its matrix without "
                "group=, and track in the first process only."
            )
        try:
            return eigsh(
                operator,
                min(self.k, operator.shape[0]),
                tol=self.tol,
                max_products=self.max_products,
                start=start,
            )
        finally:
            operator.close()  # retained graphs would share memory with the training


def gradient_of(objective: Objective) -> Tensor:
    """Gradient of the mean loss by all parameters, shape (D,)."""
    return flatten([g.detach() for g in objective.gradient()])
