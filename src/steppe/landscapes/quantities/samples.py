"""Quantities that are means over samples: accuracy, losses by class, terms of a loss.

Shape letters: B loss terms of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from steppe.errors import DataError, UsageError, check_callable
from steppe.losses import SumOfTerms, scores_and_classes
from steppe.measuring.evaluation import Evaluation, shape_text
from steppe.objective import Objective


@dataclass(frozen=True)
class SampleMean:
    """The mean over samples of a function of outputs and batch.

    Args:
        name: in results.
        function: called as `function(outputs, batch)` with the outputs of the network's
            only call, without a graph; returns a value for each sample that counts,
            whose number follows from the batch alone.
        units: of the values.
    """

    name: str
    function: Callable[[Any, Any], Tensor]
    units: str = ""

    def __post_init__(self) -> None:
        check_callable(
            "function", self.function, "returns a value per sample of (outputs, batch)"
        )

    def values(self, evaluation: Evaluation) -> Tensor:
        """Values of the samples of a batch that count, shape (samples,).

        Raises:
            UsageError: a network that the loss calls several times.
            DataError: a function that returns something else.
        """
        if evaluation.outputs is None:
            raise UsageError(
                f"{self.name} needs the outputs of the network, but the loss calls it "
                "more than once in a batch, or not at all; compute it in a loss of "
                "your own."
            )
        values = self.function(evaluation.outputs, evaluation.batch)
        if not isinstance(values, Tensor) or values.dim() != 1:
            raise DataError(
                f"the function of {self.name} must return one value per sample, shape "
                f"(samples,), got {shape_text(values)}."
            )
        return values


@dataclass(frozen=True)
class Accuracy:
    """Share of loss terms whose largest score is that of their class."""

    objective: Objective
    name: str = "accuracy"
    units: str = "share of samples"

    def values(self, evaluation: Evaluation) -> Tensor:
        """1 where the network is right and 0 elsewhere, shape (B,).

        Where two scores are equal, the first class is that of the network; a score that
        is NaN is right nowhere.

        Raises:
            UsageError: outputs that are no scores of classes.
        """
        scores, classes = _scores(evaluation, self.objective)
        right = scores.argmax(1) == classes
        return (right & ~scores.isnan().any(1)).double()


@dataclass(frozen=True)
class ClassLoss:
    """Mean loss of the samples of one class."""

    objective: Objective
    number: int
    units: str = "loss"

    @property
    def name(self) -> str:
        """With the number of the class."""
        return f"class_loss_{self.number}"

    def values(self, evaluation: Evaluation) -> Tensor:
        """Losses of the samples of the class, shape (samples,).

        Raises:
            UsageError: outputs that are no scores of classes, or losses of something
                else than single samples.
        """
        _, classes = _scores(evaluation, self.objective)
        if len(classes) != len(evaluation.losses):
            raise UsageError(
                f"losses by class need one loss for each of the {len(classes)} targets "
                f"of a batch, got {len(evaluation.losses)}."
            )
        return evaluation.losses[classes == self.number]


@dataclass(frozen=True)
class LossTerm:
    """One term of a loss that is a sum of several."""

    loss: SumOfTerms
    term: str
    units: str = "loss"

    @property
    def name(self) -> str:
        """With the name of the term."""
        return f"loss_{self.term}"

    def values(self, evaluation: Evaluation) -> Tensor:
        """Values of the term in the last batch, shape (B,)."""
        return self.loss.last[self.term]


def class_losses(objective: Objective) -> Sequence[ClassLoss]:
    """Mean losses of all classes that the data has.

    Raises:
        UsageError: outputs that are no scores of classes.
    """
    present: set[int] = set()

    def visit(evaluation: Evaluation) -> None:
        present.update(torch.unique(_scores(evaluation, objective)[1]).tolist())

    objective.evaluate(visit)
    return [ClassLoss(objective, number) for number in sorted(present)]


def loss_terms(objective: Objective) -> Sequence[LossTerm]:
    """The terms of the loss of an objective.

    Raises:
        UsageError: a loss that is no `SumOfTerms`.
    """
    loss = objective.loss
    if not isinstance(loss, SumOfTerms):
        raise UsageError(
            "loss_terms needs an objective whose loss is a steppe.SumOfTerms, got "
            f"{objective.loss_name}; a penalty is apart in any case."
        )
    with objective.measuring():
        objective.batch_values(0)
    return [LossTerm(loss, term) for term in loss.last]


def _scores(evaluation: Evaluation, objective: Objective) -> tuple[Tensor, Tensor]:
    return scores_and_classes(
        evaluation.outputs, evaluation.batch, objective.likelihood, objective.loss_name
    )
