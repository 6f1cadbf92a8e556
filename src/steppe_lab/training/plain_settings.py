"""Settings of training that are plain values, importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

SEEDS = 2**32  # seeds are below, as numpy wants them


class PlainSettings(BaseModel):
    """How a network is trained, but for the methods that are chosen by name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    train_samples: int | None = Field(default=None, ge=1)
    """Training samples to draw; digits draws 1000, others take all they have."""
    label_noise: float = Field(default=0.0, ge=0.0, le=1.0)
    """Share of training labels exchanged for a wrong class."""
    held_out: Literal["test", "validation"] = "test"
    """Samples to judge on: the test set, or unused training samples while tuning."""
    data_seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of the samples drawn and of the label noise."""
    epochs: int = Field(default=30, ge=1)
    """Passes over the training samples."""
    batch_size: int = Field(default=64, ge=1)
    """Samples per step."""
    lr_schedule: Literal["constant", "cosine", "step"] = "cosine"
    """The learning rate over the steps: cosine falls to 0, step falls tenfold at 1/2
    and at 3/4, constant stays."""
    warmup_epochs: float = Field(default=0.0, ge=0.0)
    """Linear warm-up of the learning rate."""
    device: str = "cpu"
    """A torch device to train and measure on."""
