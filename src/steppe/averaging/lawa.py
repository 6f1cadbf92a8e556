"""Latest weight averaging (LAWA): the average of the last k checkpoints.

Source: Kaddour, 2022, arXiv:2209.14981; the paper takes one checkpoint per
epoch. Fewer than k checkpoints are averaged as long as there are no more.

The k checkpoints themselves are kept and averaged when the average is asked for, so
that no rounding error of a running sum builds up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from steppe.averaging.abstract import AVERAGES, AbstractAverage, Mean
from steppe.registry.bounds import Ranges, at_least, check_bounds


@AVERAGES.add(
    "lawa",
    source="Kaddour, 2022, arXiv:2209.14981",
    memory="k",
    copies=3,
    example={"k": 3, "every": 2},
)
class LAWA(AbstractAverage):
    """Equal average of the last k weights, taken every so many steps.

    Args:
        model: the model, on its device.
        k: checkpoints in the average, >= 1, and copies of the parameters in memory. 1
            gives the last checkpoint.
        every: optimizer steps from one checkpoint to the next, >= 1; those of an epoch
            in the paper.
        buffers: "copy" leaves running statistics to the model, to be re-estimated;
            "average" averages them.
        dtype: of the copies; None keeps float32 for half-precision parameters.

    Raises:
        SettingError: a setting out of its range.
    """

    bounds: ClassVar[Ranges] = {"k": at_least(1), "every": at_least(1)}

    def __init__(
        self,
        model: nn.Module,
        *,
        k: int = 6,
        every: int = 1,
        buffers: Literal["copy", "average"] = "copy",
        dtype: torch.dtype | None = None,
    ) -> None:
        check_bounds({"k": k, "every": every}, self.bounds)
        super().__init__(model, buffers=buffers, dtype=dtype)
        self.k = k
        self.every = every
        self._ring: deque[Mean] = deque(maxlen=k)

    def wants(self, step: int) -> bool:
        """Every so many steps."""
        return step % self.every == 0

    def take(self, weights: Mean) -> None:
        """Write over the oldest copy once there are k."""
        if len(self._ring) < self.k:
            self._ring.append(weights.copy())
            return
        oldest = self._ring.popleft()
        torch._foreach_copy_(oldest.tensors, weights.tensors)
        self._ring.append(oldest)

    def mean(self) -> Mean | None:
        """The average, computed anew; None before the first checkpoint."""
        if not self._ring:
            return None
        first, *others = self._ring
        mean = first.copy()
        for checkpoint in others:
            mean.add_(checkpoint)
        return mean

    def copies(self) -> Sequence[Mean]:
        """The checkpoints, oldest first."""
        return list(self._ring)

    def numbers(self) -> dict[str, Any]:
        """Nothing more."""
        return {}

    def restore(self, copies: list[Mean], _: Mapping[str, Any]) -> None:
        """Take the last k of the saved checkpoints over."""
        self._ring = deque(copies, maxlen=self.k)
