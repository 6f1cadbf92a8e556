"""The recipe of a trained network: everything its weights follow from.

A recipe is a frozen record; texts such as "sam:rho=0.1" are accepted where a choice is
due and are checked and completed, so that a stored recipe says every setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field, field_validator, model_validator
from torch import nn
from torch.optim import Optimizer

from steppe.averaging import AVERAGES, AbstractAverage, reestimate
from steppe.errors import SettingError, SteppeError
from steppe.optimizers import OPTIMIZERS
from steppe.registry.registry import Choice, Registry, is_code, one_line, unknown_name
from steppe.schedules import Cosine, MultiStep, StepSchedule
from steppe_lab.datasets import DATASETS, AbstractSamples, Selection
from steppe_lab.datasets.samples import on_device
from steppe_lab.datasets.seeding import seeded
from steppe_lab.models import MODELS
from steppe_lab.models.model_registry import check_fits
from steppe_lab.training.bases import BASES, Together
from steppe_lab.training.settings import SEEDS, PlainSettings, parted
from steppe_lab.training.tracking import TRACKERS, check_tracker, is_led, read_led

CHOICES: dict[str, Registry[Any]] = {
    "data": DATASETS,
    "model": MODELS,
    "optimizer": OPTIMIZERS,
    "base": BASES,
    "average": AVERAGES,
    "track": TRACKERS,
}
BUILD = "a model is made by build(in_shape, classes, *, settings...) -> nn.Module"
WRAP = "an optimizer is made by a class or function of (base, *, model, settings...)"
_MANY = 10**9  # samples, more than any data has


class Recipe(PlainSettings):
    """Settings of one training run.

    Args:
        data: name of a data set.
        model: name of a model, with settings.
        optimizer: a method that wraps the base, or None for the base alone.
        base: the optimizer that takes the steps.
        average: of the weights along training, which the trained network is then; None
            for the weights after the last step.
        track: what is followed along training; None for nothing.
        seed: of the initial weights, the order of samples and the optimizer's noise.
        code: digests of the source files of choices that are code of the user, by
            name; filled in, and compared where they are given.

    The plain settings are those of `PlainSettings`.
    """

    unsaid: ClassVar[frozenset[str]] = PlainSettings.unsaid | {"average", "track"}

    data: Choice
    model: Choice
    base: Choice
    optimizer: Choice | None = None
    average: Choice | None = None
    track: Choice | None = None
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    code: dict[str, str] = Field(default_factory=dict)

    @field_validator(*CHOICES, mode="before")
    @classmethod
    def _choice(cls, value: Any, info: Any) -> Any:
        registry = CHOICES[info.field_name]
        if isinstance(value, str):
            return registry.parse(value)
        if isinstance(value, Choice):
            return registry.choose(value.name, value.settings)
        if isinstance(value, Mapping):
            return registry.choose(value["name"], value["settings"])
        return value

    @field_validator("optimizer")
    @classmethod
    def _without_missing_parts(cls, value: Choice | None) -> Choice | None:
        """No geometry is what it was before there were any: not said."""
        if value is None or value.settings.get("geometry", "") is not None:
            return value
        kept = {k: v for k, v in value.settings.items() if k != "geometry"}
        return Choice(value.name, kept)

    @field_validator("average")
    @classmethod
    def _validated(cls, value: Choice | None, info: Any) -> Choice | None:
        """What chooses by a loss must not choose by the test loss."""
        judged_on = info.data.get("held_out", "validation")
        if value and AVERAGES[value.name].spec.validates and judged_on == "test":
            raise SettingError(
                f"{value.name} chooses its steps by a validation loss, which must not "
                "be that of the test set; hold out training samples with --held-out "
                "validation."
            )
        return value

    @model_validator(mode="after")
    def _settings_in_range(self) -> Recipe:
        if self.train_samples is None:
            default = DATASETS[self.data.name].spec.train_samples
            object.__setattr__(self, "train_samples", default)
        check_device(self.device)
        chosen = [(kind, getattr(self, kind)) for kind in CHOICES]
        names = [(CHOICES[kind], choice.name) for kind, choice in chosen if choice]
        object.__setattr__(self, "code", code_of(names, self.code))
        return self

    def check(self, samples: int | None = None, model: nn.Module | None = None) -> None:
        """Make optimizer and average, so that a bad setting shows before any work.

        Not done when a recipe is made: torch takes a second for its first optimizer.

        Args:
            samples: that will be trained on; None where that is not known yet.
            model: that will be trained; None for a dummy.

        Raises:
            SettingError: a setting out of its range, or one that the model refuses.
        """
        if model is None:
            layers = [nn.Parameter(torch.zeros(1, 1)) for _ in range(3)]
            model = nn.ModuleList([nn.ParameterList(layers), nn.LayerNorm(1)])
        self.make_optimizer(model, samples or _MANY)
        if self.track is not None:
            check_tracker(self.track)
        average = self.make_average(model)
        if average is None or average.count or samples is None:
            return
        steps = self.epochs * self._steps_per_epoch(samples)
        if not any(map(average.wants, range(1, steps + 1))):
            raise SettingError(
                f"{self.average} takes in none of the {steps} steps of this training; "
                "let it begin earlier, or train for longer."
            )

    @property
    def label(self) -> str:
        """Name of the optimizer, as in tables."""
        return self.optimizer.name if self.optimizer else self.base.name

    @property
    def selection(self) -> Selection:
        """Which samples, with which labels."""
        return Selection(
            train_samples=self.train_samples,
            label_noise=self.label_noise,
            held_out=self.held_out,
            seed=self.data_seed,
        )

    @property
    def reads_files(self) -> bool:
        """Whether the data can be other data next time."""
        return DATASETS[self.data.name].spec.needs_files

    def make_model(self, in_shape: tuple[int, ...], classes: int) -> nn.Module:
        """A network with the initial weights that the seed gives."""
        check_fits(self.model, in_shape, classes)
        with seeded(self.seed):
            try:
                model = MODELS.build(self.model, in_shape, classes)
            except (Exception, SystemExit) as error:
                if isinstance(error, SteppeError) or not is_code(self.model.name):
                    raise
                raise SettingError(
                    f"model {self.model.name} failed ({one_line(error)}); {BUILD}."
                ) from error
        if not isinstance(model, nn.Module):
            raise SettingError(
                f"model {self.model.name} must give an nn.Module, got "
                f"{type(model).__name__}; {BUILD}."
            )
        return model.to(self.device)

    def make_optimizer(self, model: nn.Module, samples: int) -> Optimizer:
        """The optimizer over all parameters of a model, for a number of samples.

        Schedules and gates that do not say otherwise are as long as the training, and
        take the base's learning rate for the highest.
        """
        try:
            base: Optimizer | list[Optimizer] = BASES.build(
                self.base, model.parameters()
            )
        except (ValueError, TypeError) as error:
            reason = str(error).rstrip(".")
            raise SettingError(f"{self.base.name}: {reason}.") from None
        if self.optimizer is None:
            return Together(base) if isinstance(base, list) else base
        spec = OPTIMIZERS[self.optimizer.name].spec
        bare = any(
            limit.equals == "base" and not limit.settings for limit in spec.limits
        )
        if bare and not (self.track and is_led(self.optimizer.name)):
            raise SettingError(
                f"{self.optimizer.name} is its base until it is given what no text can "
                "say; use it in a loop of your own, see its class in steppe."
            )
        seed = {"seed": self.seed} if spec.random else {}
        known = {
            "steps": self.epochs * self._steps_per_epoch(samples),
            "max_lr": self.base.settings["lr"],
            "seed": self.seed,
        }
        try:
            made: Optimizer = OPTIMIZERS.build(
                self.optimizer, base, known=known, model=model, **seed
            )
        except (Exception, SystemExit) as error:
            if isinstance(error, SteppeError) or not is_code(self.optimizer.name):
                raise
            raise SettingError(
                f"optimizer {self.optimizer.name} failed ({one_line(error)}); {WRAP}."
            ) from error
        return made

    def make_average(self, model: nn.Module) -> AbstractAverage | None:
        """The average over the weights of a model, to be attached to its optimizer."""
        if self.average is None:
            return None
        made = AVERAGES.build(self.average, model)
        if not isinstance(made, AbstractAverage):
            raise SettingError(
                f"average {self.average.name} must be a class made from "
                f"steppe.averaging.AbstractAverage, got {type(made).__name__}."
            )
        return made

    def fit_statistics(self, model: nn.Module, samples: AbstractSamples) -> None:
        """Make running statistics fit a model that holds the average.

        Nothing happens where the average says that it needs none, or averages them.

        Args:
            model: at the averaged weights.
            samples: all training samples.
        """
        if self.average is None or not AVERAGES[self.average.name].spec.reestimate:
            return
        if self.average.settings.get("buffers") != "average":
            batches = samples.batches(self.batch_size)
            reestimate(model, (on_device(each, self.device)[0] for each in batches))

    def make_lr_schedule(self, samples: int) -> StepSchedule:
        """The learning rate as a function of the step, for a number of samples."""
        lr = float(self.base.settings["lr"])
        per_epoch = self._steps_per_epoch(samples)
        steps = self.epochs * per_epoch
        warmup = min(round(self.warmup_epochs * per_epoch), steps)
        if self.lr_schedule == "cosine":
            return Cosine(lr, 0.0, steps, warmup)
        drops = (steps // 2, 3 * steps // 4) if self.lr_schedule == "step" else ()
        return MultiStep(lr, drops, warmup=warmup)

    def _steps_per_epoch(self, samples: int) -> int:
        return -(-samples // self.batch_size)


def code_of(
    names: Iterable[tuple[Registry[Any], str]], known: Mapping[str, str]
) -> dict[str, str]:
    """Digests of the source files of those names that are code of the user.

    Args:
        names: registries and names in them.
        known: digests from when the code was used before; empty for the first time.

    Raises:
        SettingError: the code is other code now.
    """
    found = {
        name: registry[name].source_digest()
        for registry, name in names
        if is_code(name)
    }
    for name, before in known.items():
        if found.get(name) != before:
            raise SettingError(
                f"the source of {name} is not what it was (SHA-256 "
                f"{found.get(name, '')[:8]} now, {before[:8]} then); "
                "restore it, or train again with what it is now."
            )
    return found


def check_device(device: str) -> None:
    """Try a small sum there.

    Raises:
        SettingError: torch cannot use this device.
    """
    try:
        (torch.ones(1, device=device) + 1).item()
    except (RuntimeError, AssertionError) as error:
        raise SettingError(
            f"device must be one that torch can use, got '{device}' "
            f"({one_line(error)})."
        ) from None


def read_optimizer(
    text: str, base: str, defaults: Sequence[str] = (), track: str = ""
) -> dict[str, Choice | None]:
    """`optimizer`, `base`, `average` and `track` of a recipe for the text of a method.

    Args:
        text: "sam:rho=0.1" wraps `base`; "sgd" and "sgd:lr=0.05" are a base alone,
            with what `base` says of that optimizer where the text is silent. Either
            may be followed by an average, as in "sam:rho=0.1+ema:decay=0.99".
        base: the base of wrapping methods.
        defaults: settings of methods where the text is silent, as "sam:rho=0.1".
        track: what is followed along training, as "spectrum:k=5"; "" for nothing,
            unless the method needs it: "nsgd:k=5" follows 5 directions.
    """
    text, *averages = parted(text)
    if len(averages) > 1:
        raise SettingError(
            f"there can be one average of the weights, got {' and '.join(averages)}; "
            "leave one of them out."
        )
    average = AVERAGES.parse(averages[0]) if averages else None
    name = text.partition(":")[0]
    chosen = BASES.parse(base)
    known = [OPTIMIZERS.parse(default) for default in defaults]
    followed = TRACKERS.parse(track) if track else None
    beside = {"average": average, "track": followed}
    if name in BASES:
        return {"optimizer": None, "base": BASES.parse(text, [chosen]), **beside}
    if name not in OPTIMIZERS and ":" not in text:
        raise unknown_name("optimizer", name, [*BASES.names(), *OPTIMIZERS.names()])
    if name in OPTIMIZERS and is_led(name):
        text, beside["track"] = read_led(text, track)
    return {"optimizer": OPTIMIZERS.parse(text, known), "base": chosen, **beside}
