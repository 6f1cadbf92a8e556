"""The loss that a network is trained on: that of its task, smoothed, and a penalty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from steppe.losses import L2, LabelSmoothing
from steppe.measuring.modes import Mode
from steppe.objective import Objective
from steppe.parameters import trainable
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.training.over_epochs import over_epochs

if TYPE_CHECKING:
    from steppe_lab.training.recipe import Recipe

LossKind = Literal["trained", "plain"]


@dataclass(frozen=True)
class TrainedLoss:
    """A task with its loss, and a penalty beside it.

    Args:
        task: with smoothed classes where the recipe smooths them.
        penalty: of the weights; None for none.
    """

    task: AbstractTask
    penalty: L2 | None = None

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        task: str,
        kind: LossKind = "trained",
        *,
        epochs: int | None = None,
    ) -> TrainedLoss:
        """The loss that a recipe trains on, or the plain one of its task.

        Args:
            recipe: of a training.
            task: name of what the network learns.
            kind: of the loss.
            epochs: that were over, whose last one L2 over epochs is of; None for all.

        Raises:
            SettingError: label smoothing for a task without classes.
        """
        plain: AbstractTask = TASKS.build(task)
        if kind == "plain":
            return cls(plain)
        share, form = recipe.label_smoothing, recipe.label_smoothing_form
        smoothing = LabelSmoothing(share, form=form) if share else None
        coefficient = _l2_of(recipe, recipe.epochs if epochs is None else epochs)
        penalty = L2(coefficient, recipe.l2_on) if coefficient else None
        return cls(plain.smoothed(smoothing) if smoothing else plain, penalty)

    def penalised(self, loss: Tensor, model: nn.Module) -> Tensor:
        """A mean loss with the penalty of the model's weights added."""
        if self.penalty is None:
            return loss
        return loss + self.penalty(trainable(model).values())

    def penalty_of(self, model: nn.Module) -> float:
        """The penalty of a model; 0 for none."""
        with torch.no_grad():
            return float(self.penalised(torch.zeros(()), model))

    def objective(
        self,
        model: nn.Module,
        batches: Sequence[Any],
        mode: Mode = "eval",
    ) -> Objective:
        """This loss as a function of the parameters, on batches."""
        return Objective(
            model, batches, self.task.objective_loss, mode=mode, penalty=self.penalty
        )


def _l2_of(recipe: Recipe, epochs: int) -> float:
    """The coefficient in the last of some epochs; before any, that of the first."""
    schedule = over_epochs(recipe, recipe.epochs).get("l2")
    return recipe.l2 if schedule is None else schedule(max(epochs - 1, 0))


def trains_on_another(recipe: Recipe) -> bool:
    """Whether the loss trained on is not the plain one of the task."""
    return bool(recipe.label_smoothing or recipe.l2)


def note_on_loss(recipe: Recipe, task: str, epochs: int) -> list[str]:
    """Which loss was trained on, and which one scores tell, where these may differ.

    Args:
        recipe: of the training.
        task: name of what the network learned.
        epochs: that it took.
    """
    if not trains_on_another(recipe):
        return []
    loss = TrainedLoss.of(recipe, task, epochs=epochs)
    shown = str(loss.task.objective_loss)
    on = f"{shown} + {loss.penalty}" if loss.penalty else shown
    scored = "that loss" if recipe.scored_loss == "trained" else loss.task.loss_name
    return [f"trained on {on}; the losses of scores are {scored}"]
