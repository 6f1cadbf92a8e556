"""Tensors that the layers of a packed network read at the moment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from steppe_lab.training.packed.stack import Stack

Reader = Callable[[], Tensor | None]


class Current:
    """Parameters at which the networks of a stack are evaluated, and its buffers.

    Args:
        stack: of the networks.
        model: the network whose tensors layers ask for by their objects.

    Attributes:
        params: (K, *shape) each; set before an evaluation.
        statistics: whether a pass in train mode writes running statistics.
    """

    def __init__(self, stack: Stack, model: nn.Module) -> None:
        self._stack = stack
        self.params: Sequence[Tensor] = stack.params
        self.statistics = True
        self.read: set[int] = set()  # objects that layers ask for
        self._places = {id(p): n for n, p in enumerate(model.parameters())}
        self._names = {id(b): name for name, b in model.named_buffers()}

    @property
    def count(self) -> int:
        """Number of networks, K."""
        return self._stack.count

    def parameter(self, tensor: Tensor | None) -> Reader:
        """Reads the parameters (K, *shape) of which this is one."""
        if tensor is None:
            return _nothing
        self.read.add(id(tensor))
        place = self._places[id(tensor)]
        return lambda: self.params[place]

    def buffer(self, tensor: Tensor | None) -> Reader:
        """Reads the buffers (K, *shape) of which this is one."""
        if tensor is None:
            return _nothing
        self.read.add(id(tensor))
        name = self._names[id(tensor)]
        return lambda: self._stack.buffers[name]


def _nothing() -> None:
    return None
