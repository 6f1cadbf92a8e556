"""Losses and mistakes of every loss term, before and after a change of the weights.

Shape letters: P parameter tensors, B loss terms of a batch.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from steppe.batches import error_of_mean
from steppe.errors import SteppeError, UsageError
from steppe.measures.measurement import Measurement, Need
from steppe.measures.needs.outputs.outputs import OverOutputs, mistakes
from steppe.measuring.evaluation import Evaluation
from steppe.objective import Objective
from steppe.parameters import overwrite_, restored
from steppe.results import Estimate

Tensors = Literal["matrices", "all"]


@dataclass(frozen=True, kw_only=True)
class Change(abc.ABC):
    """A change of the weights that a network is used with after training.

    Args:
        tensors: "matrices" for parameters of at least two dimensions, which are the
            matrices and kernels, "all" for vectors too.
    """

    tensors: Tensors

    @abc.abstractmethod
    def of_all(self, weights: Sequence[Tensor]) -> list[Tensor]:
        """Changed copies of P tensors."""

    def chosen(self, objective: Objective) -> list[Tensor]:
        """Parameters that change.

        Raises:
            UsageError: there are none.
        """
        least = 2 if self.tensors == "matrices" else 0
        chosen: list[Tensor] = [p for p in objective.params if p.dim() >= least]
        if not chosen:
            raise UsageError(
                "tensors='matrices' needs a trainable parameter of at least two "
                f"dimensions, got {', '.join(objective.names)} without any; give "
                "tensors='all'."
            )
        return chosen


@dataclass(frozen=True)
class Answers(OverOutputs[list[Tensor]]):
    """Losses and mistakes of each batch, shape (2, B), float64.

    Mistakes are 1 or 0, and NaN where outputs are no class scores.
    """

    def of_batch(self, evaluation: Evaluation, objective: Objective) -> Tensor:
        """Losses over mistakes."""
        losses = evaluation.losses.double()
        try:
            wrong = mistakes(evaluation, objective).double()
        except SteppeError:
            wrong = torch.full_like(losses, math.nan)
        if wrong.shape != losses.shape:
            wrong = torch.full_like(losses, math.nan)
        return torch.stack((losses, wrong))

    def combined(self, batches: Sequence[Tensor]) -> list[Tensor]:
        """As they are: errors of a mean may depend on the batches."""
        return [*batches]


@dataclass(frozen=True)
class AnswersAfter(Need[list[Tensor]]):
    """The same of the network with changed weights.

    Its buffers stay, but for running statistics in mode "reestimate".

    Args:
        change: of the weights.
    """

    kind: ClassVar[str] = "changed weights"

    change: Change

    def serve(self, measurement: Measurement) -> list[Tensor]:
        """Change, evaluate, and put the weights back."""
        objective, answers = measurement.objective, Answers()
        chosen = self.change.chosen(objective)
        batches: list[Tensor] = []
        with restored(chosen) as weights:
            with torch.no_grad():
                overwrite_(chosen, self.change.of_all(weights))
            objective.evaluate(
                lambda evaluation: batches.append(
                    answers.of_batch(evaluation, objective)
                )
            )
        return batches


def rise_of_loss(measurement: Measurement, change: Change) -> Estimate:
    """Mean over the loss terms of the loss after a change less that before it.

    The standard error is that of a mean of differences of the same samples. A penalty
    is no loss term, and left out.
    """
    objective = measurement.objective
    objective.check_repeatable()
    before = measurement.of(Answers())
    after = measurement.of(AnswersAfter(change))
    rises = [new[0] - old[0] for new, old in zip(after, before, strict=True)]
    value = float(torch.cat(rises).mean())
    return Estimate(
        value=value,
        stderr=error_of_mean(rises, dependent=objective.mode == "train"),
        samples=objective.count(),
        converged=math.isfinite(value),
        details={
            **objective.term_details,
            "changed_parameters": sum(p.numel() for p in change.chosen(objective)),
            **_means("before", before),
            **_means("after", after),
        },
    )


def _means(when: str, batches: Sequence[Tensor]) -> dict[str, Any]:
    loss, error_rate = torch.cat(list(batches), 1).mean(1).tolist()
    known = {} if math.isnan(error_rate) else {f"error_rate_{when}": error_rate}
    return {f"loss_{when}": loss, **known}
