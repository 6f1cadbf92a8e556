"""Objects that a recipe names: model, optimizer, average, learning rate schedule."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from steppe.averaging import AVERAGES, AbstractAverage, reestimate
from steppe.bases import BASES
from steppe.bases.together import Together
from steppe.errors import SettingError, SteppeError
from steppe.optimizers import OPTIMIZERS
from steppe.registry.registry import is_code, one_line
from steppe.schedules import StepSchedule
from steppe.stepping.driver import AbstractOptimizer
from steppe.stepping.options import Sync
from steppe_lab.augmentation import AUGMENTATIONS
from steppe_lab.datasets.samples import AbstractSamples, on_device
from steppe_lab.datasets.seeding import seeded
from steppe_lab.models import MODELS
from steppe_lab.models.model_registry import check_fits
from steppe_lab.training.augmenting import AugmentedBatches
from steppe_lab.training.epochs import Epochs
from steppe_lab.training.lr_schedules import highest_rate, make_lr_schedule
from steppe_lab.training.recipe import Recipe
from steppe_lab.training.tracking import is_led

BUILD = (
    "a model is made by build() or "
    "build(in_shape, classes, *, settings...) -> nn.Module"
)
WRAP = "an optimizer is made by a class or function of (base, *, model, settings...)"


def build_model(recipe: Recipe, in_shape: tuple[int, ...], classes: int) -> nn.Module:
    """A network with the initial weights that the seed gives.

    Code of the user that takes no argument gets none.
    """
    check_fits(recipe.model, in_shape, classes)
    made = MODELS[recipe.model.name].make
    bare = is_code(recipe.model.name) and _takes_nothing(made)
    sizes = () if bare else (in_shape, classes)
    with seeded(recipe.seed):
        try:
            if isinstance(made, nn.Module):  # one that is there: calling it runs it
                model: Any = deepcopy(made)
            else:
                model = MODELS.build(recipe.model, *sizes)
        except (Exception, SystemExit) as error:
            if isinstance(error, SteppeError) or not is_code(recipe.model.name):
                raise
            raise SettingError(
                f"model {recipe.model.name} failed ({one_line(error)}); {BUILD}."
            ) from error
    if not isinstance(model, nn.Module):
        raise SettingError(
            f"model {recipe.model.name} must give an nn.Module, got "
            f"{type(model).__name__}; {BUILD}."
        )
    return model.to(recipe.device)


def _takes_nothing(function: Any) -> bool:
    """Whether a function has no argument that must be given, nor the two of ours."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
    first = list(parameters)[:1]
    asked = any(
        p.kind is p.VAR_POSITIONAL
        or (
            (p.kind is not p.KEYWORD_ONLY and p.kind is not p.VAR_KEYWORD)
            and p.default is p.empty
        )
        for p in parameters.values()
    )
    return not asked and first != ["in_shape"]


def build_optimizer(
    recipe: Recipe,
    model: nn.Module,
    samples: int,
    *,
    scaler: torch.amp.GradScaler | None = None,
    sync: Sync | None = None,
) -> Optimizer:
    """The optimizer over all parameters of a model, for a number of samples.

    Schedules and gates that do not say otherwise are as long as the training, and
    take the base's learning rate for the highest.

    Args:
        recipe: says which, with which settings.
        model: to be trained.
        samples: in the training set.
        scaler: of the losses, where they are scaled.
        sync: how several processes perturb; None for one process.
    """
    try:
        base: Optimizer | list[Optimizer] = BASES.build(recipe.base, model.parameters())
    except (ValueError, TypeError) as error:
        reason = str(error).rstrip(".")
        raise SettingError(f"{recipe.base.name}: {reason}.") from None
    if recipe.optimizer is None:
        return Together(base) if isinstance(base, list) else base
    spec = OPTIMIZERS[recipe.optimizer.name].spec
    bare = any(limit.equals == "base" and not limit.settings for limit in spec.limits)
    if bare and not (recipe.track and is_led(recipe.optimizer.name)):
        raise SettingError(
            f"{recipe.optimizer.name} is its base until it is given what no text can "
            "say; use it in a loop of your own, see its class in steppe."
        )
    more: dict[str, Any] = {"seed": recipe.seed} if spec.random else {}
    made: Any = OPTIMIZERS[recipe.optimizer.name].make
    ours = inspect.isclass(made) and issubclass(made, AbstractOptimizer)
    if recipe.processes > 1 and not ours:
        raise SettingError(
            f"{recipe.optimizer.name} must be a class made from "
            "steppe.optimizers.AbstractOptimizer for several processes, got "
            f"{made!r}; train in one process."
        )
    if recipe.perturbations > 1 and not (ours and made.accumulates):
        raise SettingError(
            f"perturbations must be 1 for {recipe.optimizer.name}, which takes one "
            f"gradient of the whole batch, got {recipe.perturbations}; leave it out."
        )
    if ours:
        options = {"scaler": scaler, "sync": sync}
        more |= {name: value for name, value in options.items() if value is not None}
    known = {
        "steps": Epochs.of(recipe, samples).steps,
        "max_lr": highest_rate(recipe.lr_schedule, recipe.base.settings["lr"]),
        "seed": recipe.seed,
    }
    try:
        optimizer: Optimizer = OPTIMIZERS.build(
            recipe.optimizer, base, known=known, model=model, **more
        )
    except (Exception, SystemExit) as error:
        if isinstance(error, SteppeError) or not is_code(recipe.optimizer.name):
            raise
        raise SettingError(
            f"optimizer {recipe.optimizer.name} failed ({one_line(error)}); {WRAP}."
        ) from error
    return optimizer


def build_average(recipe: Recipe, model: nn.Module) -> AbstractAverage | None:
    """The average over the weights of a model, to be attached to its optimizer."""
    if recipe.average is None:
        return None
    average = AVERAGES.build(recipe.average, model)
    if not isinstance(average, AbstractAverage):
        raise SettingError(
            f"average {recipe.average.name} must be a class made from "
            f"steppe.averaging.AbstractAverage, got {type(average).__name__}."
        )
    return average


def fit_statistics(recipe: Recipe, model: nn.Module, samples: AbstractSamples) -> None:
    """Make running statistics fit a model that holds the average.

    Nothing happens where the average says that it needs none, or averages them.

    Args:
        recipe: says which average.
        model: at the averaged weights.
        samples: all training samples.
    """
    if recipe.average is None or not AVERAGES[recipe.average.name].spec.reestimate:
        return
    if recipe.average.settings.get("buffers") != "average":
        batches = samples.batches(recipe.batch_size)
        reestimate(model, (on_device(each, recipe.device)[0] for each in batches))


def build_augmented(
    recipe: Recipe, samples: AbstractSamples
) -> AugmentedBatches | None:
    """Training samples as augmented batches; None where the recipe has none.

    Raises:
        SettingError: samples that cannot be augmented so.
    """
    if not recipe.augment:
        return None
    made_by = {
        choice.name: AUGMENTATIONS[choice.name].make for choice in recipe.augment
    }
    on_grey = [n for n, make in made_by.items() if getattr(make, "grey_levels", False)]
    if recipe.data_noise and on_grey:
        raise SettingError(
            f"{on_grey[0]} needs images as published, got --data-noise "
            f"{recipe.data_noise:g}, which makes other numbers of grey levels; leave "
            "one of the two out."
        )
    return AugmentedBatches(
        recipe.augment, samples, seed=recipe.seed, device=recipe.device
    )


def build_lr_schedule(recipe: Recipe, samples: int) -> StepSchedule:
    """The learning rate as a function of the step, for a number of samples."""
    epochs = Epochs.of(recipe, samples)
    warmup = epochs.step_at(recipe.warmup_epochs)
    return make_lr_schedule(
        recipe.lr_schedule,
        float(recipe.base.settings["lr"]),
        steps=epochs.steps,
        step_at=epochs.step_at,
        warmup=min(warmup, epochs.steps),
    )
