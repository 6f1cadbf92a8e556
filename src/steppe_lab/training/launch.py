"""The place of this process among those that `torchrun` started; imports no torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from steppe.errors import UsageError

# torchrun sets these, and so do launchers that follow it.
_RANK, _COUNT, _LOCAL = "RANK", "WORLD_SIZE", "LOCAL_RANK"
_MEETING = ("MASTER_ADDR", "MASTER_PORT")


@dataclass(frozen=True)
class Launch:
    """Processes that were started together.

    Args:
        rank: number of this one, from 0.
        count: how many there are.
        local_rank: number of this one among those of this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def leads(self) -> bool:
        """Whether this process claims, writes and reports for all."""
        return self.rank == 0


def launch() -> Launch:
    """The launch that this process is part of; one process where there is none.

    Raises:
        UsageError: the environment tells half of it.
    """
    if _COUNT not in os.environ or os.environ[_COUNT] == "1":
        return Launch()
    names = (_RANK, _COUNT, *_MEETING)
    missing = [name for name in names if name not in os.environ]
    if missing:
        raise UsageError(
            f"{_COUNT} is set, but not {', '.join(missing)}; start the command with "
            "torchrun, or unset it."
        )
    try:
        rank, count = int(os.environ[_RANK]), int(os.environ[_COUNT])
        return Launch(rank, count, int(os.environ.get(_LOCAL, rank)))
    except ValueError:
        raise UsageError(
            f"{_RANK}, {_COUNT} and {_LOCAL} must be whole numbers, got "
            f"'{os.environ[_RANK]}', '{os.environ[_COUNT]}' and "
            f"'{os.environ.get(_LOCAL, '')}'; start the command with torchrun."
        ) from None
