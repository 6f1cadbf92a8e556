"""Settings of a curve between two networks, importable without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from steppe_lab.runs.landscape_settings import MOST
from steppe_lab.training.settings import SEEDS


class ConnectSettings(BaseModel):
    """Settings that a fitted curve follows from, beside the networks."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )

    curve: Literal["bezier", "polychain"] = "bezier"
    """A Bezier curve, or a polygonal chain."""
    bends: int = Field(default=1, ge=1, le=100)
    """Control points of the curve between the networks."""
    curve_steps: int = Field(default=1000, ge=1, le=10_000_000)
    """Steps of the fit, each on a batch of training samples at a random point."""
    view: Literal["both", "curve", "plane"] = "both"
    """The loss along the curve and along the line beside that on the plane through both
    networks and the bend that is farthest off the line, or one of the two alone."""
    points: int = Field(default=61, ge=3, le=MOST)
    """Points of each path; of a plane 51 along each axis are taken."""
    batch_norm: Literal["reestimate", "interpolate"] = "reestimate"
    """Running statistics at a point: those of the samples there, or those between the
    two networks."""
    samples: int = Field(default=2000, ge=1)
    """Samples that the loss is averaged over, at most."""
    part: Literal["train", "test"] = "train"
    """Samples of which part of the data."""
    seed: int = Field(default=0, ge=0, lt=SEEDS)
    """Seed of the fit."""
