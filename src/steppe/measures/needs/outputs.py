"""Numbers of every loss term, all from one forward pass over the data.

Shape letters: B loss terms of a batch.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from torch import Tensor

from steppe.errors import SteppeError
from steppe.measures.measurement import JointNeed, Measurement
from steppe.objective import Evaluation, Objective

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class OverOutputs(JointNeed[T_co], Generic[T_co]):
    """A statistic of the outputs and losses of all batches."""

    kind: ClassVar[str] = "outputs"
    one_pass: ClassVar[bool] = True

    @abc.abstractmethod
    def of_batch(self, evaluation: Evaluation, objective: Objective) -> Tensor:
        """Numbers of one batch, of any shape; no graph is built.

        Raises:
            SteppeError: outputs of another kind than the statistic is defined for.
        """

    @abc.abstractmethod
    def combined(self, batches: Sequence[Tensor]) -> T_co:
        """The statistic, from the numbers of all batches."""

    @classmethod
    def serve_all(cls, needs: Sequence[Any], measurement: Measurement) -> Sequence[Any]:
        """Evaluate all batches once; a statistic that is refused leaves the others."""
        objective = measurement.objective
        parts: dict[Any, list[Tensor]] = {need: [] for need in needs}
        errors: dict[Any, SteppeError] = {}

        def visit(evaluation: Evaluation) -> None:
            for need in needs:
                if need in errors:
                    continue
                try:
                    parts[need].append(need.of_batch(evaluation, objective))
                except SteppeError as error:
                    errors[need] = error

        objective.evaluate(visit)
        return [errors.get(need) or _combined(need, parts[need]) for need in needs]


def _combined(need: OverOutputs[Any], batches: list[Tensor]) -> Any:
    try:
        return need.combined(batches)
    except SteppeError as error:
        return error


@dataclass(frozen=True)
class LossTerms(OverOutputs[list[Tensor]]):
    """Loss terms of each batch, shape (terms,)."""

    def of_batch(self, evaluation: Evaluation, _objective: Objective) -> Tensor:
        """The terms themselves."""
        return evaluation.losses

    def combined(self, batches: Sequence[Tensor]) -> list[Tensor]:
        """As they are: errors of a mean may depend on the batches."""
        return [*batches]
