"""One checkpoint: its network on samples of its data, and its scores."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from steppe.errors import SettingError
from steppe.measuring.modes import Mode
from steppe.objective import Objective
from steppe.results import Estimate
from steppe_lab.analysis.foreign import Belongs, Foreign, open_foreign
from steppe_lab.analysis.own import task_of
from steppe_lab.datasets import Split
from steppe_lab.datasets.loading import load_split
from steppe_lab.datasets.own import PARTS, OwnData
from steppe_lab.datasets.samples import AbstractSamples
from steppe_lab.datasets.split import SampleGroup
from steppe_lab.runs.analysis import objective_on
from steppe_lab.runs.provenance import Origin, origins
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.training import checkpoints
from steppe_lab.training.callbacks.keeping import FOLDER as KEPT
from steppe_lab.training.evaluation import estimates, score_batch
from steppe_lab.training.readiness import check_same_data
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.trained_loss import (
    LossKind,
    TrainedLoss,
    trains_on_another,
)
from steppe_lab.training.weights import check_finite_weights

ALL_PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Evaluation:
    """Scores of a checkpoint on all samples of each part."""

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
) -> Evaluation:
    """Loss and metrics of a checkpoint on all samples of each part.

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

    Returns:
        Scores by name, such as "test_error", with their standard errors over the
        samples, "test_error_stderr", and the numbers of samples. Of a loss of the
        user's own there are no metrics, and a part that its data lack is left out.

    Raises:
        CheckpointError: a file that is missing, damaged or of another network.
        DataError: data that is missing, damaged or not what was trained on.
        SettingError: another task than the one that was learnt.
    """
    if belongs is not None:
        return _evaluate_foreign(open_foreign(checkpoint, belongs, device), task)
    loaded, split = open_checkpoint(checkpoint, device=device, trust=trust)
    parts = _parts(loaded.recipe, split)
    evaluation = _on_parts(loaded.model, split, parts, task)
    return replace(
        evaluation,
        scores=_with_trained_loss(evaluation.scores, loaded, split, parts),
        notes=(*loaded.recipe.selection.noise_notes, *evaluation.notes),
    )


def _parts(recipe: Recipe, split: Split) -> dict[str, AbstractSamples]:
    """Samples of a recipe by part, whichever of them it was judged on."""
    others = {"test": "validation", "validation": "test"}
    judged: dict[str, AbstractSamples] = {recipe.held_out: split.test}
    with contextlib.suppress(SettingError):  # no training samples are unused
        other = recipe.model_copy(update={"held_out": others[recipe.held_out]})
        judged[other.held_out] = load_split(other).test
    named: dict[str, AbstractSamples] = {"train": split.train} | judged
    return {part: named[part] for part in ALL_PARTS if part in named}


def _on_parts(
    model: nn.Module,
    split: Split,
    parts: Mapping[str, AbstractSamples],
    settings: str | None,
) -> Evaluation:
    task = _task(split.task, settings)
    row: dict[str, float] = {}
    groups = {"train": split.train_groups}
    texts: dict[str, Mapping[str, Sequence[str]]] = {}
    for part, samples in parts.items():
        scores = _estimates(model, samples, task, groups.get(part))
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


def _estimates(
    model: nn.Module,
    samples: AbstractSamples,
    task: AbstractTask,
    groups: Mapping[str, SampleGroup] | None = None,
) -> dict[str, Estimate]:
    pieces = samples.pieces(score_batch(model))
    return estimates(model, pieces, task, groups, contiguous=samples.contiguous)


def _with_trained_loss(
    scores: Mapping[str, float],
    loaded: checkpoints.Checkpoint,
    split: Split,
    parts: Mapping[str, AbstractSamples],
) -> Mapping[str, float]:
    """Scores with the loss trained on and its penalty, where it is not the plain one.

    A penalty alone takes no further pass over the samples.
    """
    model, recipe = loaded.model, loaded.recipe
    if not trains_on_another(recipe):
        return scores
    loss = TrainedLoss.of(recipe, split.task, epochs=loaded.epoch)
    penalty = loss.penalty_of(model)
    row = {**scores, "l2_penalty": penalty}
    for part, samples in parts.items():
        value, stderr = scores[f"{part}_loss"], scores[f"{part}_loss_stderr"]
        if loss.task.smoothing is not None:
            smoothed = _estimates(model, samples, loss.task)["loss"]
            value, stderr = smoothed.value, smoothed.stderr
        row[f"{part}_trained_loss"] = value + penalty
        row[f"{part}_trained_loss_stderr"] = stderr
    return row


def _evaluate_foreign(foreign: Foreign, settings: str | None) -> Evaluation:
    if isinstance(foreign.data, Split) and foreign.loss is None:
        both = {"train": foreign.data.train, "test": foreign.data.test}
        return _on_parts(foreign.model, foreign.data, both, settings)
    if settings is not None:
        raise SettingError(
            f"--task is for data sets of steppe, got '{settings}' and data of your "
            "own, whose scores have no settings; leave it out."
        )
    parts = foreign.data.parts if isinstance(foreign.data, OwnData) else PARTS
    row: dict[str, float] = {}
    for part in parts:
        objective = foreign.objective(part, sys.maxsize)
        task = task_of(objective)
        if task is None:
            scores = {"loss": objective.value()}
        else:
            with objective.measuring():
                scores = estimates(objective.model, objective.batches, task)
        row |= _scores(part, scores)
        row[f"{part}_samples"] = scores["loss"].samples
    return Evaluation(row)


def _scores(part: str, scores: Mapping[str, Estimate]) -> dict[str, float]:
    row: dict[str, float] = {}
    for name, estimate in scores.items():
        row[f"{part}_{name}"] = estimate.value
        row[f"{part}_{name}_stderr"] = estimate.stderr
    return row


def open_checkpoint(
    path: Path, *, device: str | None, trust: Collection[str]
) -> tuple[checkpoints.Checkpoint, Split]:
    """A network that steppe saved, and the samples it was trained and judged on.

    Raises:
        CheckpointError: a file that is missing, damaged or of another program.
        DataError: data that is missing, damaged or not what was trained on.
    """
    loaded = checkpoints.load(path, device=device, trust=trust)
    check_finite_weights(loaded.model, path)
    split = load_split(loaded.recipe)
    check_same_data(split.fingerprint, [loaded.data], data=loaded.recipe.data.name)
    return loaded, split


def described(objective: Objective) -> str:
    """The loss of an objective and its penalty, in a few words."""
    penalty = f" + {objective.penalty}" if objective.penalty else ""
    return f"{objective.loss_name}{penalty}"


@dataclass(frozen=True)
class Network:
    """A network read from a checkpoint, on samples of the data its recipe names."""

    path: Path
    digest: str  # SHA-256 of the file, and of the names of what it belongs to
    recipe: Recipe
    outputs: int  # numbers that the model gives for a sample
    objective: Objective
    belongs: Belongs | None = None  # of weights that another program saved
    plain: bool = False  # the loss is not the one trained on
    saved: checkpoints.Checkpoint | None = None  # of one that steppe wrote
    test: Objective | None = None  # of the same model, where it was asked for

    @property
    def trained_by(self) -> str:
        """The optimizer, as far as it is known."""
        return "another program" if self.belongs else self.recipe.label

    @property
    def origins(self) -> tuple[Origin, ...]:
        """Where it was trained, as far as the folder of its run says."""
        return origins([self.run])

    @property
    def run(self) -> Path:
        """The folder of its run, if it has one."""
        inside = self.path.parent.name == KEPT
        return self.path.parent.parent if inside else self.path.parent

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on the loss and on noise in the samples, without full stops."""
        noise = self.recipe.selection.noise_notes
        if self.belongs or not trains_on_another(self.recipe):
            return noise
        kind = "the plain one" if self.plain else "the one trained on"
        return (*noise, f"the loss is {kind}, {described(self.objective)}")


def read_network(
    checkpoint: Path,
    *,
    part: Literal["train", "test"],
    samples: int,
    mode: Mode = "eval",
    device: str | None = None,
    trust: Collection[str] = (),
    belongs: Belongs | None = None,
    loss: LossKind = "trained",
    also_test: bool = False,
) -> Network:
    """Read a checkpoint and the data its recipe names.

    Args:
        checkpoint: the file.
        part: whose samples the loss is averaged over.
        samples: at most so many, drawn by the seed of the data.
        mode: of the network when its loss is evaluated.
        device: None for the one trained on.
        trust: code of the user, as module:function, that the checkpoint may name.
        belongs: of a file of another program; None for one that steppe wrote.
        loss: that of a checkpoint of steppe: the one trained on, or the plain one.
        also_test: read the test samples too.

    Raises:
        CheckpointError: a file that is missing, damaged or not steppe's.
        DataError: data that is missing, damaged or not what was trained on.
    """
    if belongs is not None:
        return _read_foreign(
            checkpoint, belongs, part, samples, mode, device, also_test=also_test
        )
    loaded, split = open_checkpoint(checkpoint, device=device, trust=trust)
    recipe = loaded.recipe
    on = partial(
        objective_on,
        loaded.model,
        split,
        samples=samples,
        seed=recipe.data_seed,
        mode=mode,
        loss=TrainedLoss.of(recipe, split.task, loss, epochs=loaded.epoch),
    )
    objective = on(part=part)
    content = checkpoint.read_bytes()
    plain = loss == "plain" and trains_on_another(recipe)
    if plain:  # another number than that of the file alone
        content += b"\nplain"
    digest = hashlib.sha256(content).hexdigest()
    return Network(
        checkpoint,
        digest,
        recipe,
        loaded.outputs,
        objective,
        plain=plain,
        saved=loaded,
        test=on(part="test") if also_test else None,
    )


def _read_foreign(
    path: Path,
    belongs: Belongs,
    part: Literal["train", "test"],
    samples: int,
    mode: Mode,
    device: str | None,
    *,
    also_test: bool,
) -> Network:
    foreign = open_foreign(path, belongs, device)
    objective = foreign.objective(part, samples, mode)
    # Such a file does not say what it is measured as.
    said = [each for each in astuple(belongs) if each]
    said.append(foreign.fingerprint(objective))
    content = path.read_bytes() + "".join(f"\n{each}" for each in said).encode()
    digest = hashlib.sha256(content).hexdigest()
    outputs = foreign.outputs(objective)
    test = foreign.objective("test", samples, mode) if also_test else None
    return Network(path, digest, foreign.recipe, outputs, objective, belongs, test=test)


def check_one_loss(a: Network, b: Network) -> None:
    """Refuse networks that are about to be compared in unlike losses.

    Raises:
        SettingError: names both.
    """
    first, second = (described(each.objective) for each in (a, b))
    if first != second:
        raise SettingError(
            f"two checkpoints are compared in one loss, got {first} of {a.path} and "
            f"{second} of {b.path}; give --loss plain."
        )
