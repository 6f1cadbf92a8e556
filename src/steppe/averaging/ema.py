"""Exponential moving average (EMA) of the weights.

Source: Polyak, Juditsky, 1992, SIAM Journal on Control and Optimization 30(4), for
averaging iterates; the exponential form w_avg <- d w_avg + (1 - d) w and the warm-up
d_t = min(d, (1 + t) / (10 + t)) after t updates are common practice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from steppe.averaging.abstract import AVERAGES, AbstractAverage, Mean
from steppe.registry.bounds import Ranges, at_least, check_bounds


@AVERAGES.add(
    "ema",
    source="Polyak & Juditsky, 1992, doi:10.1137/0330046",
    memory="1",
    copies=1,
    reestimate=False,
    example={"decay": 0.9},
)
class EMA(AbstractAverage):
    """Average in which older weights count exponentially less.

    It starts at the weights that the model has when it is made.

    Args:
        model: the model, on its device.
        decay: share of the average that an update keeps, 0 to 1. 0 gives the present
            weights.
        warmup: smaller decays at first, so that the initial weights are soon forgotten;
            without it a decay of 0.999 holds 62 % of them after 480 steps.
        every: optimizer steps from one update to the next, >= 1.
        buffers: "average" treats running statistics like parameters, "copy" leaves
            those of the model.
        dtype: of the average; None keeps float32 for half-precision parameters.

    Raises:
        SettingError: a setting out of its range.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(1, 1, bias=False)
        >>> _ = torch.nn.init.zeros_(model.weight)
        >>> ema = EMA(model, decay=0.75, warmup=False)
        >>> _ = torch.nn.init.ones_(model.weight)
        >>> ema.update()
        >>> with ema.applied():
        ...     model.weight.item()
        0.25
    """

    bounds: ClassVar[Ranges] = {"decay": (0.0, 1.0), "every": at_least(1)}

    def __init__(
        self,
        model: nn.Module,
        *,
        decay: float = 0.999,
        warmup: bool = True,
        every: int = 1,
        buffers: Literal["copy", "average"] = "average",
        dtype: torch.dtype | None = None,
    ) -> None:
        check_bounds({"decay": decay, "every": every}, self.bounds)
        super().__init__(model, buffers=buffers, dtype=dtype)
        self.decay = decay
        self.warmup = warmup
        self.every = every
        self._mean = self.weights().copy()

    def wants(self, step: int) -> bool:
        """Every so many steps."""
        return step % self.every == 0

    def take(self, weights: Mean) -> None:
        """Keep a share `decay` of the average, and fill up with the weights."""
        updates = self._mean.count - 1  # the initial weights are no update
        decay = self.decay
        if self.warmup:
            decay = min(decay, (1 + updates) / (10 + updates))
        self._mean.lerp_(weights.tensors, 1 - decay)
        self._mean.count += 1

    def mean(self) -> Mean:
        """The average; at first the initial weights."""
        return self._mean

    def copies(self) -> Sequence[Mean]:
        """The average alone."""
        return [self._mean]

    def numbers(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def restore(self, copies: list[Mean], _: Mapping[str, Any]) -> None:
        """Take the saved average over."""
        (self._mean,) = copies
