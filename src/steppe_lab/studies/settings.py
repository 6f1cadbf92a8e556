"""Settings of studies, importable without torch so that `--help` is quick.

Names of methods stay texts here; they are checked and completed before any work.
"""

from __future__ import annotations

import hashlib

from pydantic import Field, field_validator

from steppe_lab.training.plain_settings import SEEDS, PlainSettings


class TrainingSettings(PlainSettings):
    """How networks are trained, whatever the optimizer and the seed."""

    base: str = "sgd:lr=0.05"
    """The optimizer that wrapping methods step with."""
    defaults: tuple[str, ...] = ("sam:rho=0.1", "lpf_sgd:gamma=0.03")
    """Settings of methods where nothing is said; tuned on digits, on validation
    samples."""
    data: str = "digits"
    """A data set, see `steppe list`, or your own as module:function."""
    model: str = "small_cnn"
    """A model, such as small_cnn:width=8,batch_norm=true, or module:function."""


class TrainSettings(TrainingSettings):
    """How one network is trained."""

    optimizer: str = "sam"
    """An optimizer, such as sgd, sam:rho=0.1 or adam; see `steppe list`."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of the initial weights, the order of samples and the optimizer's noise."""


class CompareSettings(TrainingSettings):
    """Everything the numbers of a comparison follow from."""

    optimizers: tuple[str, ...] = ("sgd", "sam", "lpf_sgd")
    """Optimizers to compare, such as sgd, sam:rho=0.1 or adam; see `steppe list`. The
    first one is what the others are compared with."""
    seeds: int = Field(default=3, ge=1)
    """Networks per optimizer; seed n gives all of them the same initial weights."""
    measures: tuple[str, ...] = ("top_eigenvalue", "trace:rtol=0.1", "lpf:sigma=0.05")
    """Measures of flatness, such as lpf:sigma=0.02."""
    measure_samples: int = Field(default=1000, ge=1)
    """Training samples that are measured on, at most."""
    line_points: int = Field(default=25, ge=3)
    """Points of the loss along a random line."""
    line_radius: float = Field(default=1.0, gt=0.0)
    """The line runs from minus to plus this, relative to the norms of the filters."""

    @field_validator("optimizers")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) != len(value):
            raise ValueError(
                f"name every optimizer once, and at least one; got {', '.join(value)}."
            )
        return value

    @property
    def name(self) -> str:
        """A file name for the report, the same for the same settings."""
        model, data = (text.partition(":")[0] for text in (self.model, self.data))
        settings = hashlib.sha256(self.model_dump_json().encode()).hexdigest()
        return f"compare-{data}-{model}-{settings[:8]}"

    @property
    def runs(self) -> int:
        """Networks to train."""
        return self.seeds * len(self.optimizers)
