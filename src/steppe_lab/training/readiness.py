"""Checks before any work: a network that can be trained, data that is the same."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from steppe.errors import DataError, SettingError, SteppeError
from steppe.registry.registry import is_code, one_line
from steppe.torch_internals import without_compiler
from steppe_lab.datasets.loading import load_split
from steppe_lab.datasets.samples import (
    CHUNK,
    AbstractSamples,
    CountedTargets,
    on_device,
)
from steppe_lab.datasets.split import Split
from steppe_lab.tasks import TASKS, AbstractTask
from steppe_lab.training.augmenting import build_augmentations
from steppe_lab.training.build import (
    BUILD,
    build_augmented,
    build_average,
    build_lr_schedule,
    build_model,
    build_optimizer,
)
from steppe_lab.training.callbacks.monitor import check_monitor
from steppe_lab.training.callbacks.plateau import scaled_key
from steppe_lab.training.callbacks.stopping import stopping_rules
from steppe_lab.training.carrying import check_carrying
from steppe_lab.training.epochs import Epochs, lengths_for
from steppe_lab.training.network import check_network_settings
from steppe_lab.training.over_epochs import check_over_epochs
from steppe_lab.training.plateau import plateau_of
from steppe_lab.training.precision import check_precision
from steppe_lab.training.processes import Processes, check_processes
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.sharing import Sharing
from steppe_lab.training.starts import Start
from steppe_lab.training.tensorboard import summary_writer
from steppe_lab.training.tracking import check_tracker
from steppe_lab.training.trained_loss import TrainedLoss

_MANY = 10**9  # samples, more than any data has


def check_settings(
    recipe: Recipe,
    samples: int | None = None,
    model: nn.Module | None = None,
    start: Start | None = None,
) -> None:
    """Make optimizer and average, so that a bad setting shows before any work.

    Args:
        recipe: settings of the training.
        samples: that will be trained on; None where that is not known yet.
        model: that will be trained; None for a dummy.
        start: weights that it gets first, and the state of their optimizer.

    Raises:
        CheckpointError: weights to start from that do not fit.
        SettingError: a setting out of its range, or one that the model refuses.
    """
    if model is None:
        layers = [nn.Parameter(torch.zeros(1, 1)) for _ in range(3)]
        model = nn.ModuleList([nn.ParameterList(layers), nn.LayerNorm(1)])
    check_precision(recipe.amp, recipe.device)
    check_processes(recipe)
    build_augmentations(recipe.augment)
    with without_compiler():  # workers compile, this process only asks
        optimizer = build_optimizer(recipe, model, samples or _MANY)
    if start is not None:
        start.put_into(model, recipe)
        if recipe.with_optimizer:
            start.resume(optimizer, model, recipe)
    build_lr_schedule(recipe, samples or _MANY)
    if samples is not None:
        _check_warmup(recipe, Epochs.of(recipe, samples))
    check_over_epochs(recipe, Epochs.of(recipe, samples or _MANY).count)
    rule = plateau_of(recipe.lr_schedule)
    if rule is not None and rule.scales:
        scaled_key(rule.scales, recipe, optimizer)
    if recipe.tensorboard:
        summary_writer()
    if recipe.track is not None:
        check_tracker(recipe.track)
    average = build_average(recipe, model)
    if average is None or average.count or samples is None:
        return
    steps = Epochs.of(recipe, samples).steps
    if not any(map(average.wants, range(1, steps + 1))):
        raise SettingError(
            f"{recipe.average} takes in none of the {steps} steps of this training; "
            "let it begin earlier, or train for longer."
        )


def check_ready(recipe: Recipe, start: Start | None = None) -> Split:
    """Read the data and try the network once, so that mistakes show before any work.

    Args:
        recipe: settings of the training.
        start: weights that the network gets first.

    Raises:
        CheckpointError: weights to start from that do not fit.
        DataError: data that is missing or damaged.
        SettingError: a setting of the model, samples that the data does not have or
            that cannot be augmented, or a network that is none or cannot be trained on
            them.
    """
    check_settings(recipe)
    split = load_split(recipe)
    task: AbstractTask = TASKS.build(split.task)
    for part, samples in (("training", split.train), ("test", split.test)):
        broken = task.check_targets(_some_targets(samples))
        if broken:
            name = recipe.data.name
            raise DataError(f"the {part} targets of {name} {broken}.")
    stopping_rules(recipe, task)
    check_network_settings(recipe, split.in_shape)
    check_carrying(recipe, split)
    check_monitor(recipe, task)
    lengths_for(recipe, split.train)
    build_augmented(recipe, split.train)
    model = build_model(recipe, split.in_shape, split.outputs)
    check_outputs(recipe, model, split)
    _check_last_batch(recipe, model, len(split.train))
    check_settings(recipe, len(split.train), model, start)
    return split


def _some_targets(samples: AbstractSamples) -> Tensor:
    """Targets that tell of all of them whether a task can have them."""
    if isinstance(samples, CountedTargets):  # all of them, padded, may be gigabytes
        return samples.targets_at(slice(0, CHUNK))
    return samples.targets


def check_outputs(recipe: Recipe, model: nn.Module, split: Split) -> None:
    """Run a network on two samples, and check its outputs.

    Raises:
        SettingError: a network without parameters, or one for other data.
    """
    task: AbstractTask = TASKS.build(split.task)
    batch = split.train.batch(slice(0, 2))
    name = f"model {recipe.model.name}"
    fix = BUILD if is_code(recipe.model.name) else "choose a model made for such data"
    if not any(True for _ in model.parameters()):
        raise SettingError(f"{name} has no parameters to train; {fix}.")
    try:
        with torch.no_grad():
            inputs, targets = on_device(batch, recipe.device)
            outputs = model.eval()(inputs)
    except SteppeError:
        raise
    except (Exception, SystemExit) as error:
        raise SettingError(
            f"{name} cannot be called with inputs of {recipe.data.name}, of shape "
            f"{split.in_shape} ({one_line(error)}); {fix}."
        ) from error
    broken = task.check_outputs(outputs, targets, split.outputs)
    if broken:
        raise SettingError(f"{name} {broken}; {fix}.")
    try:  # a network that cannot be asked for texts, where the task judges those
        task.corpus_scores(model, split.test.chosen(torch.tensor([0])))
    except SteppeError:
        raise
    except Exception as error:  # of a network of the user
        raise SettingError(
            f"{name} gives no {', '.join(m.title for m in task.corpus_metrics)} of a "
            f"sample of {recipe.data.name} ({one_line(error)}); {fix}."
        ) from error
    # Smoothing that the task or its number of classes refuses.
    TrainedLoss.of(recipe, split.task).task.loss(outputs, targets, reduction="mean")


def check_same_data(now: str, before: Iterable[str], *, data: str) -> None:
    """Refuse data other than those of earlier results.

    Args:
        now: fingerprint of the split at hand.
        before: fingerprints of the splits that networks were trained on.
        data: name of the data set, for the sentence.

    Raises:
        DataError: one of them is another.
    """
    for then in before:
        if then != now:
            raise DataError(
                f"{data} is not the data that was trained on (SHA-256 {now[:8]} now, "
                f"{then[:8]} then); name another --out, or give the data it was "
                "trained on."
            )


def _check_warmup(recipe: Recipe, epochs: Epochs) -> None:
    """Refuse a warm-up that would be cut short, and so be steeper than was asked."""
    if epochs.step_at(recipe.warmup_epochs) > epochs.steps:
        raise SettingError(
            f"warmup_epochs must end within the training of {epochs.steps} steps, got "
            f"{recipe.warmup_epochs:g} epochs; shorten the warm-up, or train for "
            "longer."
        )


def _check_last_batch(recipe: Recipe, model: nn.Module, samples: int) -> None:
    smallest = Epochs.of(recipe, samples).smallest_batch
    sharing = Sharing.of(recipe, Processes(0, recipe.processes))
    lonely = any(len(part.rows) == 1 for part in sharing.parts(smallest))
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if lonely and any(isinstance(module, norms) for module in model.modules()):
        size = recipe.epoch_size or samples
        parts = "batch" if smallest == 1 else "part of a batch"
        raise SettingError(
            f"batch norm needs 2 samples in every {parts}, got one of 1 with "
            f"batch_size {recipe.batch_size} and {size} training samples; change "
            "either by one."
        )
