"""Operators whose data is spread over the processes of a group.

Every process has its own shard of the data and the whole of the parameters.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from steppe.errors import UsageError


class ProcessGroup:
    """The processes that hold shards of one operator's data.

    Args:
        group: a process group, True for all processes, None for this process alone.

    Raises:
        UsageError: a group without `torch.distributed` having been set up.
    """

    def __init__(self, group: Any) -> None:
        self._alone = group is None or group is False
        self._group: Any = None if group is True else group
        ready = dist.is_available() and dist.is_initialized()
        if not self._alone and not ready:
            raise UsageError(
                "group= needs torch.distributed; call init_process_group first, or "
                "leave group out."
            )

    @property
    def spread(self) -> bool:
        """Whether there is more than this process to ask."""
        return not self._alone

    @property
    def number(self) -> int:
        """Number of this process in the group."""
        return 0 if self._alone else dist.get_rank(self._group)

    def add(self, tensor: Tensor) -> Tensor:
        """Sum a tensor over the processes, in place."""
        if not self._alone:
            dist.all_reduce(tensor, group=self._group)
        return tensor

    def agreed(self, values: Tensor, device: torch.device) -> Tensor:
        """The values of the first process, in all of them."""
        if self._alone:
            return values
        # `src` is a rank among all processes; the first of a group may have another.
        first = 0 if self._group is None else dist.get_global_rank(self._group, 0)
        # A copy: the values of this process are the caller's, and may be elsewhere.
        shared = values.detach().to(device, copy=True).contiguous()
        dist.broadcast(shared, src=first, group=self._group)
        return shared.to(values.device)
