"""Stochastic weight averaging (SWA): the equal average of weights along the way.

Source: Izmailov, Podoprikhin, Garipov, Vetrov, Wilson, 2018, arXiv:1803.05407,
Algorithm 1; as there, the weights at which averaging starts are the first of them.

The learning rate of the paper, cyclic or constant, is the schedule's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from steppe.averaging.abstract import AVERAGES, AbstractAverage, Mean
from steppe.registry.bounds import Ranges, at_least, check_bounds


@AVERAGES.add(
    "swa",
    source="Izmailov et al., 2018, arXiv:1803.05407",
    memory="1",
    copies=1,
    example={"start": 2, "every": 2},
)
class SWA(AbstractAverage):
    """Equal average of the weights after steps start, start + every, and so on.

    Args:
        model: the model, on its device.
        start: optimizer step whose weights are the first in the average, >= 0; 0 for
            the weights that the model has now.
        every: optimizer steps from one to the next (the cycle length c), >= 1.
        buffers: "copy" leaves running statistics to the model, to be re-estimated;
            "average" averages them.
        dtype: of the average; None keeps float32 for half-precision parameters.

    Raises:
        SettingError: a setting out of its range.
    """

    bounds: ClassVar[Ranges] = {"start": at_least(0), "every": at_least(1)}

    def __init__(
        self,
        model: nn.Module,
        *,
        start: int = 0,
        every: int = 1,
        buffers: Literal["copy", "average"] = "copy",
        dtype: torch.dtype | None = None,
    ) -> None:
        check_bounds({"start": start, "every": every}, self.bounds)
        super().__init__(model, buffers=buffers, dtype=dtype)
        self.start = start
        self.every = every
        self._mean = self.weights().copy() if start == 0 else None

    def wants(self, step: int) -> bool:
        """Every so many steps from the start on."""
        return step >= self.start and (step - self.start) % self.every == 0

    def take(self, weights: Mean) -> None:
        """Add to the running mean."""
        if self._mean is None:
            self._mean = weights.copy()
        else:
            self._mean.add_(weights)

    def mean(self) -> Mean | None:
        """The average; None before the start."""
        return self._mean

    def copies(self) -> Sequence[Mean]:
        """The average, where there is one."""
        return [] if self._mean is None else [self._mean]

    def numbers(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def restore(self, copies: list[Mean], _: Mapping[str, Any]) -> None:
        """Take the saved average over."""
        self._mean = copies[0] if copies else None
