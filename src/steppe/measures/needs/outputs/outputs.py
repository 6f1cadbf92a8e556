"""Numbers of every loss term, all from one forward pass over the data.

Shape letters: B loss terms of a batch.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

import torch
from torch import Tensor

from steppe.errors import DataError, SteppeError
from steppe.losses import scores_and_classes
from steppe.measures.measurement import JointNeed, Measurement
from steppe.measuring.evaluation import Evaluation
from steppe.objective import Objective

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


def mistakes(evaluation: Evaluation, objective: Objective) -> Tensor:
    """Whether the largest class score is that of another class, for each loss term.

    Args:
        evaluation: of a batch of inputs and targets. Where targets are probabilities,
            the class is the most probable one.
        objective: of which it is; targets that its loss ignores are left out.

    Raises:
        UsageError: outputs that are no scores of at least two classes.
    """
    scores, classes = class_scores(evaluation, objective)
    return scores.argmax(1) != classes


def margins(evaluation: Evaluation, objective: Objective) -> Tensor:
    """Score of the class less the largest one of the others, for each loss term.

    Args:
        evaluation: see `mistakes`.
        objective: see `mistakes`.

    Raises:
        UsageError: outputs that are no scores of at least two classes.
    """
    scores, classes = class_scores(evaluation, objective)
    own = scores.gather(1, classes[:, None])[:, 0]
    others = scores.scatter(1, classes[:, None], -torch.inf)
    return own - others.amax(1)


def class_scores(evaluation: Evaluation, objective: Objective) -> tuple[Tensor, Tensor]:
    """Scores of all classes and the class, for each loss term: (terms, C) and (terms,).

    Args:
        evaluation: see `mistakes`.
        objective: see `mistakes`.

    Raises:
        UsageError: outputs that are no scores of at least two classes.
    """
    return scores_and_classes(
        evaluation.outputs, evaluation.batch, objective.likelihood, objective.loss_name
    )


@dataclass(frozen=True)
class Margins(OverOutputs[Tensor]):
    """Margins of all loss terms, shape (terms,), float64, on the host, ascending."""

    def of_batch(self, evaluation: Evaluation, objective: Objective) -> Tensor:
        """Those of the batch."""
        return margins(evaluation, objective)

    def combined(self, batches: Sequence[Tensor]) -> Tensor:
        """Sorted, so that their order does not matter."""
        return torch.cat([*batches]).double().cpu().sort().values


def tenth_percentile(sorted_margins: Tensor) -> float:
    """The margin that a tenth of the loss terms are not above, as published.

    Raises:
        DataError: it is 0 or not finite, so that no measure divides by it.
    """
    margin = float(sorted_margins[max(len(sorted_margins) // 10, 1) - 1])
    if margin == 0 or not math.isfinite(margin):
        raise DataError(
            "the 10th percentile of the margins must be finite and not 0, got "
            f"{margin:g}; measure without margin, or a network with other outputs."
        )
    return margin
