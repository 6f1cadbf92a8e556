"""A steppe optimizer shown as another `torch.optim.Optimizer`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor

from steppe.stepping.driver import AbstractOptimizer
from steppe.stepping.wrapper import Shown


class Front(Shown):
    """Shows the groups and the state of a steppe optimizer under other calls.

    LR schedulers, loggers and `GradScaler` may hold this, the steppe optimizer or its
    base: the groups are the same objects.

    Args:
        optimizer: does the work.
    """

    optimizer: AbstractOptimizer
    of_one_step: ClassVar[frozenset[str]] = frozenset()  # attributes that no copy gets

    def __init__(self, optimizer: AbstractOptimizer) -> None:
        # Not torch's own constructor: it would make groups of its own.
        self.__setstate__({"optimizer": optimizer, "defaults": optimizer.defaults})

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of the base."""
        return self.optimizer.param_groups

    @param_groups.setter
    def param_groups(self, groups: list[dict[str, Any]]) -> None:
        self.optimizer.param_groups = groups

    @property
    def state(self) -> Any:
        """State of the base, by parameter."""
        return self.optimizer.state

    @state.setter
    def state(self, state: Mapping[Any, Any]) -> None:
        self.optimizer.state = state

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group to the base."""
        self.optimizer.add_param_group(param_group)

    def train(self) -> None:
        """Switch the base to the weights that it trains, where it has others too."""
        self.optimizer.train()

    def eval(self) -> None:
        """Switch the base to the weights that it predicts with, where it has two."""
        self.optimizer.eval()

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __getstate__(self) -> dict[str, Any]:
        """State without the parts of a single step; an LR scheduler patches `step`."""
        left_out = {"step", *self.of_one_step}
        return {k: v for k, v in self.__dict__.items() if k not in left_out}
