"""Needs of several measures, served together where one pass can."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import torch

from steppe.measures.abstract import AbstractMeasure
from steppe.measures.measurement import JointNeed, Measurement


def serve_together(
    measures: Iterable[AbstractMeasure], measurement: Measurement
) -> None:
    """Serve needs that one pass can serve, before the first measure runs.

    Needs that are served one by one wait until a measure asks: how many it takes may
    depend on the first ones.
    """
    needs = [
        need
        for each in measures
        for need in each.needs()
        if isinstance(need, JointNeed) and need.one_pass
    ]
    # The measure that asks for them meets the error again, and says it.
    with contextlib.suppress(torch.OutOfMemoryError):
        measurement.serve(needs)
