"""Settings of studies, importable without torch so that `--help` is quick.

Names of methods stay texts here; they are checked and completed before any work.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from steppe.errors import SettingError
from steppe.measuring.modes import Mode
from steppe.registry.sweeps import log_spaced
from steppe_lab.training.settings import SEEDS, PlainSettings, parted

MOST_VALUES = 10_000  # of a sweep


class TrainingSettings(PlainSettings):
    """How networks are trained, whatever the optimizer and the seed."""

    always_recorded: ClassVar[frozenset[str]] = PlainSettings.always_recorded | {
        *("base", "defaults", "data", "model"),
    }

    base: str = "sgd:lr=0.05"
    """The optimizer that wrapping methods step with."""
    defaults: tuple[str, ...] = ("sam:rho=0.1", "lpf_sgd:gamma=0.03")
    """Settings of methods where nothing is said; tuned on digits, on validation
    samples."""
    data: str = "digits"
    """A data set, see `steppe list`, or your own as module:function."""
    model: str = "small_cnn"
    """A model, such as small_cnn:width=8,batch_norm=true, or module:function."""
    augment: str = ""
    """Random changes of training images: basic, basic+cutout, shift_flip,
    basic+autoaugment+cutout, or with settings as basic+cutout:size=8,p=1; see `steppe
    list`."""


class TrainSettings(TrainingSettings):
    """How one network is trained."""

    always_recorded: ClassVar[frozenset[str]] = TrainingSettings.always_recorded | {
        *("optimizer", "seed", "track"),
    }

    optimizer: str = "sam"
    """An optimizer, such as sgd, sam:rho=0.1 or adam; with an average of the weights
    that follows it, sgd+ema; see `steppe list`."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of the initial weights, the order of samples, their augmentation and the
    optimizer's noise."""
    track: str = ""
    """What to follow along training: spectrum, or with settings of its own
    spectrum:k=5,samples=2250,every=1epoch."""


class SpectrumSettings(BaseModel):
    """Settings that the numbers of a spectrum follow from, beside the network."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    k: int = Field(default=5, ge=0)
    """Eigenvalues at each end."""
    steps: int = Field(default=100, ge=2, le=100_000)
    """Krylov steps of each probe: products with the matrix, and vectors in memory."""
    probes: int = Field(default=1, ge=1, le=10_000)
    """Random starts that the density is averaged over."""
    draws: int = Field(default=10, ge=2, le=1_000_000)
    """Random vectors for what is left of the trace and the Frobenius norm."""
    matrix: Literal["hessian", "ggn", "fisher", "empirical_fisher"] = "hessian"
    """The Hessian, the Gauss-Newton matrix, the Fisher matrix of the model's own
    predictions, or the second moment of the gradients of the samples."""
    samples: int = Field(default=2000, ge=1)
    """Samples that the loss is averaged over, at most."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    mode: Mode = "eval"
    """The network as it predicts, or as it trains: with statistics of the batch."""
    sigma: str = "quadrature"
    """Width of the Gaussians in the density: quadrature for what the steps resolve,
    pyhessian for the narrow ones of that program, or a number."""
    alpha: float | None = Field(default=None, gt=0.0)
    """Of the effective dimension, the sum of l / (l + alpha) over the positive
    eigenvalues l; the default is a hundredth of the largest."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of the random vectors."""

    @model_validator(mode="after")
    def _fits(self) -> SpectrumSettings:
        if self.k > self.steps:
            raise SettingError(
                f"k must be at most the number of steps, {self.steps}, got {self.k}."
            )
        _ = self.width
        return self

    @property
    def width(self) -> float | Literal["quadrature", "pyhessian"]:
        """Sigma as it is meant."""
        if self.sigma == "quadrature":
            return "quadrature"
        if self.sigma == "pyhessian":
            return "pyhessian"
        with contextlib.suppress(ValueError):
            if 0 < float(self.sigma) < math.inf:
                return float(self.sigma)
        raise SettingError(
            f"sigma must be quadrature, pyhessian or a number > 0, got {self.sigma!r}."
        )


class ExaminationSettings(BaseModel):
    """Settings that an examination follows from, beside the network."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    data_samples: int = Field(default=2000, ge=1)
    """Samples that are read, at most, drawn by the seed of the data."""
    samples: int | None = Field(default=None, ge=1)
    """Samples that passes over the data take, of those that are read; the default is
    as many as half of the time allows."""
    curvature_samples: int | None = Field(default=None, ge=1)
    """The same for products with the Hessian, for which the other half is."""
    seconds: float = Field(default=100.0, gt=0.0)
    """For all of it, about, where the two numbers above are not given."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    mode: Mode = "eval"
    """The network as it predicts, with statistics of batch norm that are re-estimated
    on the samples, or as it trains."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of all draws."""


class CompareSettings(TrainingSettings):
    """Everything the numbers of a comparison follow from."""

    always_recorded: ClassVar[frozenset[str]] = TrainingSettings.always_recorded | {
        *("optimizers", "seeds", "measures", "measure_samples"),
        *("line_points", "line_radius"),
    }

    optimizers: tuple[str, ...] = ("sgd", "sam", "lpf_sgd")
    """Optimizers to compare, such as sgd, sam:rho=0.1 or adam, or sgd+ema for the
    average of its weights; see `steppe list`. The first one is what the others are
    compared with."""
    seeds: int = Field(default=3, ge=1, le=1000)
    """Networks per optimizer; seed n gives all of them the same initial weights."""
    sweep: str = ""
    """A setting of one optimizer and its values, rho=0.01,0.1,1 or rho=0.01..1:log7;
    the best is chosen on validation samples. A name alone: the optimizers differ in
    it."""
    measures: tuple[str, ...] = ("top_eigenvalue", "trace:rtol=0.1", "lpf:sigma=0.05")
    """Measures of flatness, such as lpf:sigma=0.02, and groups of them, such as all or
    spectral; see `steppe list measures`."""
    measure_samples: int = Field(default=1000, ge=1)
    """Training samples that are measured on, at most."""
    line_points: int = Field(default=25, ge=3, le=10_001)
    """Points of the loss along a random line."""
    line_radius: float = Field(default=1.0, gt=0.0)
    """The line runs from minus to plus this, relative to the norms of the filters."""

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, data: Any) -> Any:
        """Several optimizers from one and the values of its setting."""
        sweep = data.get("sweep") if isinstance(data, Mapping) else None
        if not sweep:
            return data
        name, given, values = str(sweep).partition("=")
        if not given:
            return {**data, "held_out": "validation"}
        if not name.strip():
            raise SettingError(
                "a sweep names a setting and its values, as in rho=0.01,0.1,1; "
                f"got '{sweep}'."
            )
        optimizers = tuple(data.get("optimizers", ()))
        if len(optimizers) != 1:
            raise SettingError(
                f"a sweep needs one optimizer, got {len(optimizers)}; write "
                f"steppe compare sam --sweep {sweep}."
            )
        only, *averages = parted(optimizers[0])
        joint = "," if "=" in only else ":"
        swept_over = [f"{only}{joint}{name}={value:g}" for value in swept(values)]
        texts = ["+".join([text, *averages]) for text in swept_over]
        changed = {"optimizers": tuple(texts), "sweep": name, "held_out": "validation"}
        return {**data, **changed}

    @field_validator("optimizers")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(
                f"name every optimizer once, and at least one; got {', '.join(value)}."
            )
        return value

    @field_validator("measures")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        twice = [text for text in value if value.count(text) > 1]
        if twice:
            raise ValueError(f"name every measure once; got {twice[0]} again.")
        return value

    @property
    def name(self) -> str:
        """A file name for the report, the same for the same settings."""
        model, data = (text.partition(":")[0] for text in (self.model, self.data))
        said = self.model_dump_json()
        settings = hashlib.sha256(said.encode()).hexdigest()
        return f"compare-{data}-{model}-{settings[:8]}"

    @property
    def runs(self) -> int:
        """Networks to train."""
        return self.seeds * len(self.optimizers)


def swept(text: str) -> tuple[float, ...]:
    """The values of a sweep, ascending.

    Example:
        >>> swept("0.1,0.01"), swept("0.01..1:log3")
        ((0.01, 0.1), (0.01, 0.1, 1.0))

    Raises:
        SettingError: a text that is neither.
    """
    span, spaced, count = text.partition(":log")
    low, dots, high = span.partition("..")
    try:
        if spaced or dots:
            if int(count) > MOST_VALUES:
                raise SettingError(
                    f"a sweep must have at most {MOST_VALUES:,} values, got {count}."
                )
            return log_spaced(float(low), float(high), int(count))
        values = tuple(sorted(float(piece) for piece in text.split(",")))
    except ValueError as error:
        if isinstance(error, SettingError):
            raise
        values = ()
    if len(set(values)) < 2 or not all(map(math.isfinite, values)):
        raise SettingError(
            "a sweep needs two or more finite values, as in rho=0.01,0.1,1 or "
            f"rho=0.01..1:log7; got '{text}'."
        )
    return tuple(sorted(set(values)))
