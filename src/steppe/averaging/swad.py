"""Stochastic weight averaging densely (SWAD): every step from convergence to overfit.

Source: Cha, Chun, Lee, Cho, Park, Lee, Park, 2021, arXiv:2102.08604, Algorithm 1. Its
iteration i is a validation here, together with the segment of steps since the one
before: the loss E_i is that at the end of the segment, and all of its steps are
averaged, or none. With a validation after every step this is the paper's text.

Differences from the authors' code, which are Algorithm 1 again: a loss that never
converges gives the average of all steps and not the last segment, without an end the
average goes on to the last step, and segments of unequal length weigh by their steps.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from steppe.averaging.abstract import AVERAGES, AbstractAverage, Mean
from steppe.errors import SettingError, UsageError
from steppe.registry.bounds import Ranges, at_least, check_bounds
from steppe.stepping.state_dicts import check_entries


@AVERAGES.add(
    "swad",
    source="Cha et al., 2021, arXiv:2102.08604",
    memory="max(n_converge, n_tolerance) + 2 until the end is known, then 1",
    copies=5,
    validates=True,
    example={"n_converge": 2, "n_tolerance": 3},
)
class SWAD(AbstractAverage):
    """Average of all steps between two that the validation loss chooses.

    Call `update()` after every step and `validate(loss)` now and then::

        swad.update()
        if step % 100 == 0:
            swad.validate(validation_loss(model))

    The start is the first validation whose loss is the least of the `n_converge` from
    it on; it is part of the average with all steps since the validation before it. The
    end is the last validation before `n_tolerance` in a row exceed the mean of those
    `n_converge` losses by more than `tolerance_ratio`. Without a start the average
    begins at the weights that the model has now, without an end it goes on.

    Args:
        model: the model, on its device.
        n_converge: the paper's optimum patience N_s, in validations, >= 1.
        n_tolerance: the paper's overfit patience N_e, in validations, >= 1.
        tolerance_ratio: by how much the loss may rise, as a share of it, >= 0: the
            paper's r less 1.
        buffers: "copy" leaves running statistics to the model, to be re-estimated;
            "average" averages them.
        dtype: of the average; None keeps float32 for half-precision parameters.

    Raises:
        SettingError: a setting out of its range.
    """

    bounds: ClassVar[Ranges] = {
        "n_converge": at_least(1),
        "n_tolerance": at_least(1),
        "tolerance_ratio": (0.0, math.inf),
    }

    def __init__(
        self,
        model: nn.Module,
        *,
        n_converge: int = 3,
        n_tolerance: int = 6,
        tolerance_ratio: float = 0.3,
        buffers: Literal["copy", "average"] = "copy",
        dtype: torch.dtype | None = None,
    ) -> None:
        settings = {
            "n_converge": n_converge,
            "n_tolerance": n_tolerance,
            "tolerance_ratio": tolerance_ratio,
        }
        check_bounds(settings, self.bounds)
        super().__init__(model, buffers=buffers, dtype=dtype)
        self.n_converge = n_converge
        self.n_tolerance = n_tolerance
        self.tolerance_ratio = tolerance_ratio
        self.start = 0  # first step in the average
        self.end: int | None = None  # last step in it; None until validation says so
        self.threshold: float | None = None  # the paper's l, once converged
        self._settled: Mean | None = self.weights().copy()  # before the segments
        self._segments: deque[Mean] = deque()
        self._losses: deque[float] = deque()  # one for each segment
        self._since: Mean | None = None  # the steps after the last validation

    def validate(self, loss: float) -> None:
        """Give the validation loss of the model's present weights.

        Args:
            loss: a finite number >= 0, as one that a ratio is taken of.

        Raises:
            SettingError: a loss out of range.
            UsageError: no `update()` since the last validation.
        """
        loss = float(loss)
        if not 0 <= loss < math.inf:
            raise SettingError(
                f"the validation loss must be finite and >= 0, got {loss}."
            )
        if self.end is not None:
            return
        if self._since is None:
            raise UsageError(
                "there was no step since the last validation; call update() after "
                "every step."
            )
        self._segments.append(self._since)
        self._losses.append(loss)
        self._since = None
        if self.threshold is None:
            self._seek_start()
        else:
            self._seek_end()

    def _seek_start(self) -> None:
        self._settle(self.n_converge)
        losses = self._losses
        # Converged where the loss has not improved for n_converge validations: the
        # average begins with the first of them.
        if len(losses) == self.n_converge and losses[0] == min(losses):
            self.threshold = (1 + self.tolerance_ratio) * fmean(losses)
            self._settled = None
            self.start = self._before_segments() + 1

    def _seek_end(self) -> None:
        assert self.threshold is not None
        self._settle(self.n_tolerance)
        if self._settled is not None and min(self._losses) > self.threshold:
            self.end = self._before_segments()
            self._segments.clear()
            self._losses.clear()

    def _settle(self, keep: int) -> None:
        """Leave only the last segments apart."""
        # The window may still begin or end between the last segments, so these keep
        # their own means; older ones are joined, which bounds the memory.
        while len(self._segments) > keep:
            self._losses.popleft()
            self._settled = _joined(self._settled, self._segments.popleft())

    def _before_segments(self) -> int:
        return self.steps - sum(segment.count for segment in self._segments)

    def wants(self, _: int) -> bool:
        """Every step until the end of the average."""
        return self.end is None

    def take(self, weights: Mean) -> None:
        """Add to the mean of the segment that is open."""
        self._since = _joined(self._since, weights)

    def mean(self) -> Mean:
        """The average as it would be if training ended now."""
        first, *others = self.copies()
        if not others:
            return first
        mean = first.copy()
        for part in others:
            mean.add_(part)
        return mean

    def copies(self) -> Sequence[Mean]:
        """Means of consecutive steps, in their order."""
        parts = (self._settled, *self._segments, self._since)
        return [part for part in parts if part is not None]

    def numbers(self) -> dict[str, Any]:
        """Where the search stands."""
        return {
            "start": self.start,
            "end": self.end,
            "threshold": self.threshold,
            "losses": list(self._losses),
            "settled": self._settled is not None,
        }

    def restore(self, copies: list[Mean], numbers: Mapping[str, Any]) -> None:
        """Take the saved means and the search over."""
        known = {"start": int, "end": int | None, "threshold": float | None}
        kinds = {**known, "losses": list, "settled": bool}
        check_entries(numbers, kinds, type(self).__name__)
        parts = deque(copies)
        self.start, self.end = numbers["start"], numbers["end"]
        self.threshold = numbers["threshold"]
        self._losses = deque(numbers["losses"])
        self._settled = parts.popleft() if numbers["settled"] else None
        self._segments = deque(parts.popleft() for _ in self._losses)
        self._since = parts.popleft() if parts else None


def _joined(mean: Mean | None, more: Mean) -> Mean:
    """One mean of both, in the memory of the first."""
    if mean is None:
        return more.copy()
    mean.add_(more)
    return mean
