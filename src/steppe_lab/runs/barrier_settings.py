"""Settings of barriers between networks, importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from steppe_lab.training.settings import SEEDS


class BarrierSettings(BaseModel):
    """Settings that barriers follow from, beside the networks."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    no_matched: bool = False
    """Leave out the barriers with the units of the second network in the order of the
    first."""
    curve_steps: int = Field(default=0, ge=0, le=10_000_000)
    """Steps of the fit of a curve between two networks, on training samples; 0 for no
    curve."""
    curve: Literal["bezier", "polychain"] = "bezier"
    """A Bezier curve, or a polygonal chain."""
    bends: int = Field(default=1, ge=1, le=100)
    """Control points of the curve between the networks."""
    points: int = Field(default=25, ge=3, le=100_001)
    """Points of each path, both ends included."""
    batch_norm: Literal["reestimate", "interpolate"] = "reestimate"
    """Running statistics at a point: those of the samples there, or those between the
    two networks."""
    samples: int = Field(default=2000, ge=1)
    """Samples that the loss is averaged over, at most."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of weight matching and of the fits."""
