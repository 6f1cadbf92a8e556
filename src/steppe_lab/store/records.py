"""Results of the library as JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from steppe.results import Estimate, Surface


def estimate_record(estimate: Estimate) -> dict[str, Any]:
    """An estimate as JSON."""
    return {**asdict(estimate), "details": dict(estimate.details)}


def surface_record(surface: Surface) -> dict[str, Any]:
    """A line of the landscape as JSON."""
    return {
        "x": list(surface.x),
        "loss": surface.loss.tolist(),
        "stderr": surface.stderr.tolist(),
        "samples": surface.samples,
        "details": dict(surface.details),
    }
