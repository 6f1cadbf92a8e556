"""Modes that a model is measured in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Mode = Literal["eval", "train", "reestimate"]  # of a model, and its batch norm
NORMS: Mapping[Mode, str] = {  # statistics of batch norm by mode
    "eval": "running statistics",
    "reestimate": "re-estimated on the data",
    "train": "statistics of each batch",
}
