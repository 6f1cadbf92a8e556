"""Scores of one checkpoint on all samples of the parts of its data."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from torch import nn

from steppe.errors import SettingError
from steppe.results import Estimate
from steppe_lab.analysis.foreign import Belongs, Foreign, open_foreign
from steppe_lab.analysis.own import loss_of, task_of
from steppe_lab.analysis.single import open_checkpoint
from steppe_lab.datasets import Split
from steppe_lab.datasets.loading import load_split
from steppe_lab.datasets.own import PARTS, OwnData
from steppe_lab.datasets.samples import AbstractSamples
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.training.evaluation import estimates
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.rows import scored_rows
from steppe_lab.training.trained_loss import TrainedLoss, trains_on_another

AnyPart = TypeVar("AnyPart", bound=str)
Part = Literal["train", "validation", "test"]
ALL_PARTS: tuple[Part, ...] = ("train", "validation", "test")
TRAINED = "trained_loss"  # name of the loss trained on, where it is not the plain one


@dataclass(frozen=True)
class Evaluation:
    """Scores of a checkpoint on all samples of some parts."""

    # By name, such as "test_error", with standard errors and numbers of samples.
    scores: Mapping[str, float]
    notes: tuple[str, ...] = ()  # sentences without full stops
    texts: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)  # of scores, by name
    decoding: Mapping[str, int | float] = field(default_factory=dict)  # of the texts


def evaluate_one(
    checkpoint: Path,
    *,
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    task: str | None = None,
    part: Part | None = None,
) -> Evaluation:
    """Loss and metrics of a checkpoint on all samples of a part, or of each.

    The parts are train and test, and validation where training samples were held out
    or are unused; of weights of another program nobody knows which were used. Metrics
    of a whole corpus, such as BLEU, are not computed on training samples, which would
    be searched for texts for as long as they were trained on.

    Args:
        checkpoint: the file.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoint may name.
        belongs: of a file of another program; None for one that steppe wrote.
        task: that was learnt, with settings of its scores, such as
            "translation:beam=4"; None for their defaults.
        part: the only one that is scored; None for all.

    Returns:
        Scores by name, such as "test_error", with their standard errors over the
        samples, "test_error_stderr", and the numbers of samples. Of a loss of the
        user's own there are no metrics, and a part that its data lack is left out.

    Raises:
        CheckpointError: a file that is missing, damaged or of another network.
        DataError: data that is missing, damaged or not what was trained on.
        SettingError: another task than the one that was learnt, or a part that the
            data lack.
    """
    if belongs is not None:
        foreign = open_foreign(checkpoint, belongs, device)
        return _evaluate_foreign(foreign, task, part)
    loaded, split = open_checkpoint(checkpoint, device=device, trust=trust)
    recipe = loaded.recipe
    loss = TrainedLoss.of(recipe, split.task, epochs=loaded.epoch)
    another = trains_on_another(recipe)
    parts = _parts(recipe, split, part)
    # Smoothed labels take other terms of the same outputs.
    smoothed = loss.task if another and loss.task.smoothing is not None else None
    evaluation = _on_parts(loaded.model, split, parts, task, smoothed)
    scores = evaluation.scores
    if another:
        scores = _with_penalty(scores, parts, loss.penalty_of(loaded.model))
    notes = (*recipe.selection.noise_notes, *evaluation.notes)
    return replace(evaluation, scores=scores, notes=notes)


def _parts(
    recipe: Recipe, split: Split, part: Part | None
) -> dict[Part, AbstractSamples]:
    """Samples of a recipe by part, whichever of them it was judged on."""
    own: dict[Part, AbstractSamples] = {"train": split.train}
    own[recipe.held_out] = split.test
    if part in own:
        return {part: own[part]}
    other: Part = "validation" if recipe.held_out == "test" else "test"
    try:
        own[other] = load_split(recipe.model_copy(update={"held_out": other})).test
    except SettingError:  # no training samples are unused
        if part is not None:
            raise
    named = {each: own[each] for each in ALL_PARTS if each in own}
    return named if part is None else {part: named[part]}


def _on_parts(
    model: nn.Module,
    split: Split,
    parts: Mapping[Part, AbstractSamples],
    settings: str | None,
    smoothed: AbstractTask | None = None,
) -> Evaluation:
    task = _task(split.task, settings)
    row: dict[str, float] = {}
    groups = {"train": split.train_groups}
    texts: dict[str, Mapping[str, Sequence[str]]] = {}
    for part, samples in parts.items():
        scores = estimates(
            model,
            samples.pieces(scored_rows(model, samples, task)),
            task,
            groups.get(part),
            contiguous=samples.contiguous,
            also=None if smoothed is None else {TRAINED: smoothed},
        )
        row |= _scores(part, scores)
        if part != "train":
            corpus = task.corpus_scores(model, samples)
            row |= _scores(part, corpus.estimates)
            texts |= {part: corpus.texts} if corpus.texts else {}
        row[f"{part}_samples"] = len(samples)
    named = {f"{p}_{n}": text for p in parts for n, text in task.signatures.items()}
    signatures = {name: text for name, text in named.items() if name in row}
    decoding = task.decoding if signatures else {}
    return Evaluation(row, tuple(task.notes), texts, signatures, decoding)


def _task(name: str, settings: str | None) -> AbstractTask:
    """The task that was learnt, with the settings that a text gives its scores."""
    text = settings or name
    # By the text: the name of another one may be code, which is not imported.
    if text != name and not text.startswith(f"{name}:"):
        raise SettingError(
            f"--task takes the task that was learnt, {name}, with settings, got "
            f"'{text}'; write {name}:setting=value, or leave it out."
        )
    task: AbstractTask = TASKS.build(text)
    return task


def _with_penalty(
    scores: Mapping[str, float], parts: Collection[Part], penalty: float
) -> Mapping[str, float]:
    """Scores with the loss trained on: of smoothed labels or plain, and its penalty."""
    row = {name: value for name, value in scores.items() if TRAINED not in name}
    row["l2_penalty"] = penalty
    for part in parts:
        key = f"{part}_{TRAINED}"
        name = key if key in scores else f"{part}_loss"
        row[key] = scores[name] + penalty
        row[f"{key}_stderr"] = scores[f"{name}_stderr"]
    return row


def _evaluate_foreign(
    foreign: Foreign, settings: str | None, part: Part | None
) -> Evaluation:
    if isinstance(foreign.data, Split) and foreign.loss is None:
        named: dict[Part, AbstractSamples] = {"train": foreign.data.train}
        named["test"] = foreign.data.test
        chosen = {each: named[each] for each in _among(tuple(named), part)}
        return _on_parts(foreign.model, foreign.data, chosen, settings)
    if settings is not None:
        raise SettingError(
            f"--task is for data sets of steppe, got '{settings}' and data of your "
            "own, whose scores have no settings; leave it out."
        )
    parts = foreign.data.parts if isinstance(foreign.data, OwnData) else PARTS
    row: dict[str, float] = {}
    for each in _among(tuple(parts), part):
        objective = foreign.objective(each, sys.maxsize)
        task = task_of(objective)
        if task is None:
            scores = {"loss": loss_of(objective)}
        else:
            with objective.measuring():
                scores = estimates(objective.model, objective.batches, task)
        row |= _scores(each, scores)
        row[f"{each}_samples"] = scores["loss"].samples
    return Evaluation(row)


def _among(parts: Sequence[AnyPart], part: Part | None) -> Sequence[AnyPart]:
    """All parts, or the one that is asked for.

    Raises:
        SettingError: the data lack it.
    """
    chosen = [each for each in parts if part in (None, each)]
    if not chosen:
        raise SettingError(
            f"--part must be {' or '.join(parts)} of these data, got {part}; choose "
            "one that is there."
        )
    return chosen


def _scores(part: str, scores: Mapping[str, Estimate]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, estimate in scores.items():
        row[f"{part}_{name}"] = estimate.value
        row[f"{part}_{name}_stderr"] = estimate.stderr
    return row
