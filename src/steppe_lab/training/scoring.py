"""Scores of a network in training, and of the average of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steppe.averaging import AVERAGES
from steppe_lab.datasets import Split
from steppe_lab.training.build import fit_statistics
from steppe_lab.training.evaluation import AVERAGED, evaluate, judge
from steppe_lab.training.failures import check_finite

if TYPE_CHECKING:
    from steppe_lab.training.state import TrainingState


def score(state: TrainingState, split: Split) -> dict[str, float]:
    """Losses and errors of the network, and of the average if it holds anything.

    The first of several processes computes them for all.

    Raises:
        TrainingFailedError: the training loss became NaN or infinite.
    """
    return state.processes.of_first(lambda: _score(state, split))


def _score(state: TrainingState, split: Split) -> dict[str, float]:
    recipe, model, average = state.recipe, state.model, state.average
    scores = _on_both(state, split)
    # The test loss is a finding: it may be infinite where training went well.
    check_finite("final training", scores["train_loss"], state.epoch + 1)
    if recipe.average is None or average is None:
        return scores
    if AVERAGES[recipe.average.name].spec.validates:
        check_finite("validation", scores["test_loss"], state.epoch + 1)
        average.validate(scores["test_loss"])  # type: ignore[attr-defined]
    if not average.count:
        return scores
    with average.applied():
        fit_statistics(recipe, model, split.train)
        averaged = _on_both(state, split)
    return scores | {f"{AVERAGED}{name}": value for name, value in averaged.items()}


def _on_both(state: TrainingState, split: Split) -> dict[str, float]:
    groups, loss = split.train_groups, state.scored_loss
    penalty = loss.penalty_of(state.model)
    trained = evaluate(state.model, state.resident["train"], loss.task, groups=groups)
    judged = judge(state.model, state.resident["test"], loss.task)
    scores = (trained.penalised(penalty), judged.penalised(penalty))
    return scores[0].row("train") | scores[1].row("test")
