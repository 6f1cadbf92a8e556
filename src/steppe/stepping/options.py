"""Options that every optimizer takes beside its own settings."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal, TypedDict

import torch
from torch import Tensor, nn

from steppe.errors import (
    SettingError,
    UnknownNameError,
    UsageError,
    brief,
    check_integer,
)
from steppe.gates import Gate, LookingGate
from steppe.parameters import metrics_in, named, norm_parameters
from steppe.registry.registry import unknown_name
from steppe.seeds import stream

Statistics = Literal["first", "all"]
Sync = Literal["local", "global"]


class OptimizerOptions(TypedDict, total=False):
    """Keyword arguments that every method takes, and passes on to the driver.

    Attributes:
        model: the module that the loop calls, such as a `DistributedDataParallel`; give
            it whenever the network has running statistics (batch norm) or metrics that
            it updates itself, or several processes train it; all go by it.
        batch_norm: "first" keeps only what the first pass of a step writes to buffers
            (running statistics of batch norm) and needs `model`, "all" keeps every
            pass's; None, the default, is the method's own choice where `model` is
            given, and "all" where it is not.
        rng: "fresh", the default, draws new dropout masks in every pass, "replay" the
            same ones, on CPU and CUDA.
        gate: the steps on which the method is used, see `steppe.gates`; on others the
            base steps with the plain gradient. None, the default, for all steps.
        perturb: the parameters that may be moved: "all", the default, "norm" for those
            of normalisation layers (needs `model`; SAM-ON, Mueller et al., 2023,
            arXiv:2306.04226), or the parameters themselves. A group with
            `perturb=False` stays unmoved in any case.
        sync: with a `DistributedDataParallel` model, "local" perturbs every process by
            its own gradient (the default, m-sharpness), "global" all of them alike.
        scaler: the `GradScaler` that scales the loss; methods that mix gradients of
            several steps or add them to weights need it to undo the scale, as do a
            gate that looks at gradients and the lengths in `metrics()`.
        monitor: read more into `metrics()`: the length of the first and of the final
            gradient and the cosine between them, for one more copy of the gradient;
            False unless asked for.
    """

    model: nn.Module | None
    batch_norm: Statistics | None
    rng: Literal["fresh", "replay"]
    gate: Gate | None
    perturb: Literal["all", "norm"] | Iterable[nn.Parameter]
    sync: Sync | None
    scaler: torch.amp.GradScaler | None
    monitor: bool


class RandomOptions(OptimizerOptions, total=False):
    """Keyword arguments of methods that draw random numbers.

    Attributes:
        seed: of the method's own draws, when no `generator` is given; 0 unless told
            otherwise, whatever `torch.manual_seed` was given, so that repetitions of
            an experiment want a seed each.
        generator: source of the draws, on the device of the parameters; its state is
            saved with the optimizer.
    """

    seed: int
    generator: torch.Generator | None


@dataclass(frozen=True, kw_only=True)
class CheckedOptions:
    """Options of one optimizer, checked; arguments as in `RandomOptions`."""

    model: nn.Module | None = None
    batch_norm: Statistics | None = None
    rng: Literal["fresh", "replay"] = "fresh"
    gate: Gate | None = None
    perturb: Literal["all", "norm"] | Iterable[nn.Parameter] = "all"
    sync: Sync | None = None
    scaler: torch.amp.GradScaler | None = None
    monitor: bool = False
    seed: int | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.batch_norm not in (None, "first", "all"):
            raise SettingError(
                f"batch_norm must be 'first' or 'all', got {self.batch_norm!r}."
            )
        if self.batch_norm == "first" and self.model is None:
            raise SettingError(
                "batch_norm='first' needs the model to find its running statistics; "
                "pass model=model."
            )
        if not isinstance(self.model, nn.Module | None):
            raise SettingError(
                f"model must be a torch.nn.Module, got {brief(self.model)}."
            )
        if self.seed is not None:
            check_integer("seed", self.seed)
        if not isinstance(self.generator, torch.Generator | None):
            raise SettingError(
                f"generator must be a torch.Generator, got {brief(self.generator)}."
            )
        if self.scaler is not None and not hasattr(self.scaler, "is_enabled"):
            raise SettingError(
                f"scaler must be a GradScaler, got {brief(self.scaler)}."
            )
        if self.rng not in ("fresh", "replay"):
            raise SettingError(f"rng must be 'fresh' or 'replay', got {self.rng!r}.")
        if self.gate is not None and not isinstance(self.gate, Gate):
            raise SettingError(
                "gate must be a steppe.gates.Gate such as Every(5), got "
                f"{brief(self.gate)}."
            )
        if isinstance(self.perturb, str) and self.perturb not in ("all", "norm"):
            raise SettingError(
                "perturb must be 'all', 'norm' or parameters, got "
                f"{brief(self.perturb)}."
            )
        if not isinstance(self.perturb, str):
            self._choose(self.perturb)
        if self.perturb == "norm" and self.model is None:
            raise SettingError(
                "perturb='norm' needs the model to find its normalisation layers; "
                "pass model=model."
            )

    def _choose(self, given: Any) -> None:
        """Take parameters, possibly from an iterator; refuse anything else."""
        several = isinstance(given, Iterable) and not isinstance(given, Tensor)
        chosen = tuple(given) if several else ()
        if not several or not all(isinstance(p, Tensor) for p in chosen):
            raise SettingError(
                f"perturb must be 'all', 'norm' or parameters, got {brief(given)}."
            )
        object.__setattr__(self, "perturb", chosen)

    @classmethod
    def of(cls, method: type, given: Mapping[str, Any]) -> CheckedOptions:
        """Options among a method's arguments; all else is a misspelled setting.

        Raises:
            UnknownNameError: a name that is neither option nor setting.
        """
        own = inspect.signature(method).parameters.values()
        named = {p.name for p in own if p.kind is p.KEYWORD_ONLY}
        known = {field.name for field in fields(cls)}
        for name in given:
            if name == "adaptive":
                raise UnknownNameError(
                    f"{method.__name__} has no setting adaptive: the adaptive SAM is "
                    "steppe.ASAM, and others climb in its ball with "
                    "geometry=steppe.geometry.Adaptive()."
                )
            if name not in known:
                kind = f"setting of {method.__name__}"
                raise unknown_name(kind, name, named | known)
        return cls(**given)

    def check_model(self, params: list[Tensor]) -> None:
        """Refuse a model that has nothing to do with the parameters."""
        if self.model is not None and not set(params) & set(self.names()):
            raise SettingError(
                "the model has none of the optimizer's parameters; pass the model "
                "that its base was made for."
            )

    def check(self, method: str, *, random: bool, looks_first: bool) -> None:
        """Refuse options that do not go with a method of some name and facts."""
        if isinstance(self.gate, LookingGate) and not looks_first:
            raise SettingError(
                f"{type(self.gate).__name__} decides by the gradient at the "
                f"unperturbed weights, which {method} does not evaluate; use a gate "
                "that knows the step, such as Every."
            )
        if not random and (self.seed, self.generator) != (None, None):
            raise SettingError(
                f"{method} draws no random numbers; leave out seed and generator."
            )

    @property
    def scales(self) -> bool:
        """Whether a scaler that is on was given."""
        return self.scaler is not None and self.scaler.is_enabled()

    def check_scaler(self, method: str, *, scale_free: bool) -> None:
        """Refuse a step by a scaler that was not given, where it has to be known."""
        if self.scales:
            return
        why = "" if scale_free else f"{method} keeps gradients or adds them to weights"
        if scale_free and isinstance(self.gate, LookingGate):
            why = f"the gate {type(self.gate).__name__} compares gradients of steps"
        if why:
            raise UsageError(
                f"{why}, so it has to know the scale that the GradScaler gives them; "
                f"make a new {method} with scaler=scaler (this one has not stepped)."
            )

    def check_closure(self) -> None:
        """Refuse a closure where the scaler is to look at gradients before a step."""
        if self.scales:
            raise UsageError(
                "step(closure) steps before a GradScaler has taken its scale out of "
                "the gradient; loop over passes() and call scaler.step(optimizer), or "
                "leave scaler= out where no loss is scaled."
            )

    def movable(self, known: Iterable[Tensor]) -> frozenset[Tensor] | None:
        """The parameters that may be moved; None for all.

        Args:
            known: the parameters of the optimizer.
        """
        if self.perturb == "all":
            return None
        if self.perturb == "norm":
            assert self.model is not None  # checked when it was made
            chosen: frozenset[Tensor] = frozenset(norm_parameters(self.model))
        else:
            chosen = frozenset(self.perturb)
        if chosen and chosen.isdisjoint(known):
            raise SettingError(
                "none of the parameters of perturb= is in the base; choose among "
                "those that it was made with."
            )
        return chosen

    @cached_property
    def metrics(self) -> tuple[nn.Module, ...]:
        """Metrics in the model at the first step; they count every batch once."""
        return () if self.model is None else metrics_in(self.model)

    def names(self) -> Mapping[Tensor, str]:
        """Names of the parameters in the model, empty without one."""
        return {} if self.model is None else named(self.model)

    def draws(self, device: torch.device, number: int) -> torch.Generator:
        """The generator of a random method: given, or made from seed and number."""
        if self.generator is not None:
            return self.generator
        return stream(number, self.seed or 0, device=device)
