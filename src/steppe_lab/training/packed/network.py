"""A stack of networks that is called as one, in two forms.

Shape letters: K networks, B batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import SteppeError
from steppe.torch_internals import has_hooks
from steppe_lab.training.packed.current import Current
from steppe_lab.training.packed.layers import packed_layer
from steppe_lab.training.packed.stack import Stack


class CannotPackError(SteppeError):
    """Networks that have to be trained one by one, and why."""


class AbstractPackedNetwork(ABC):
    """K networks of one structure, called as one.

    Args:
        stack: their memory.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack

    @abstractmethod
    def __call__(
        self,
        params: Sequence[Tensor],
        inputs: Any,
        *,
        training: bool,
        statistics: bool = False,
        shared: bool = False,
    ) -> Tensor:
        """Outputs of all networks, (K, B, ...).

        Args:
            params: (K, *shape) each, in the order of the stack.
            inputs: (K, B, ...), or (B, ...) where they are shared.
            training: whether the networks are in train mode.
            statistics: whether the pass is written to running statistics.
            shared: whether all networks get the same inputs.
        """


class FoldedNetwork(AbstractPackedNetwork):
    """Layers with the weights of all networks, on their batches as one of K B rows.

    Args:
        stack: the memory of the networks.

    Raises:
        CannotPackError: a layer that has no such form.
    """

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        model = stack.models[0]
        self._current = Current(stack, model)
        self._net = _replaced(model, self._current)
        own = {id(t) for t in (*model.parameters(), *model.buffers())}
        if not own <= self._current.read:
            raise CannotPackError("a layer has no packed form")

    def __call__(
        self,
        params: Sequence[Tensor],
        inputs: Any,
        *,
        training: bool,
        statistics: bool = False,
        shared: bool = False,
    ) -> Tensor:
        """Outputs of all networks, (K, B, ...)."""
        count = self.stack.count
        if shared:
            inputs = inputs.expand(count, *inputs.shape)
        self._current.params, self._current.statistics = params, statistics
        if self._net.training is not training:
            self._net.train(training)
        outputs = self._net(inputs.flatten(0, 1))
        unfolded: Tensor = outputs.view(count, -1, *outputs.shape[1:])
        return unfolded


class MappedNetwork(AbstractPackedNetwork):
    """One network that torch maps over the stack, for layers of any kind."""

    def __init__(self, stack: Stack) -> None:
        super().__init__(stack)
        self._net = deepcopy(stack.models[0])

    def __call__(
        self,
        params: Sequence[Tensor],
        inputs: Any,
        *,
        training: bool,
        statistics: bool = False,
        shared: bool = False,
    ) -> Tensor:
        """Outputs of all networks, (K, B, ...)."""
        stack = self.stack
        self._net.train(training)
        buffers = stack.buffers
        if training and not statistics:
            buffers = {name: b.clone() for name, b in buffers.items()}
        given = dict(zip(stack.names, params, strict=True))

        def call(own: dict[str, Tensor], kept: dict[str, Tensor], x: Any) -> Any:
            return torch.func.functional_call(self._net, {**own, **kept}, (x,))

        mapped = torch.func.vmap(call, (0, 0, None if shared else 0))
        outputs: Tensor = mapped(given, buffers, inputs)
        return outputs


def _replaced(model: nn.Module, current: Current) -> nn.Module:
    """A copy of a network with packed layers in the place of its own."""
    made: dict[int, Any] = {}
    for layer in model.modules():
        if has_hooks(layer):
            raise CannotPackError("its network has hooks")
        packed = packed_layer(layer, current)
        if packed is not None:
            made[id(layer)] = packed
    # What is in the memo stands for itself, so that no weights are copied.
    copied: nn.Module = deepcopy(model, made)
    return copied
