"""Memory of a stack of networks of one structure, of which each network is a row.

Shape letters: K networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from steppe.torch_internals import buffer_table


class Stack:
    """Parameters and buffers of K networks, each kind of tensor in one of (K, ...).

    The tensors of the networks become views of rows: what is written to one is seen in
    the other.

    Args:
        models: K networks with parameters and buffers of the same names and shapes.

    Attributes:
        params: of all networks, one tensor (K, *shape) for each parameter.
        buffers: by name, (K, *shape) each.
    """

    def __init__(self, models: Sequence[nn.Module]) -> None:
        self.models = list(models)
        self.names = [name for name, _ in models[0].named_parameters()]
        each = [list(model.parameters()) for model in models]
        self.params = [_stacked(tensors) for tensors in zip(*each, strict=True)]
        self.buffers = {
            name: _stacked([model.get_buffer(name) for model in models])
            for name, _ in models[0].named_buffers()
        }
        for place, model in enumerate(self.models):
            set_tensors(model, self.row(place))

    @property
    def count(self) -> int:
        """Number of networks, K."""
        return len(self.models)

    def row(self, place: int) -> Iterator[tuple[str, Tensor]]:
        """Tensors of one network by name, as views."""
        for name, tensor in zip(self.names, self.params, strict=True):
            yield name, tensor[place]
        for name, tensor in self.buffers.items():
            yield name, tensor[place]


def own_memory(model: nn.Module) -> None:
    """Give a network that leaves its stack memory of its own."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    set_tensors(model, iter([(name, t.detach().clone()) for name, t in tensors]))


def set_tensors(model: nn.Module, tensors: Iterator[tuple[str, Tensor]]) -> None:
    """Give parameters and buffers other memory; the objects of parameters stay."""
    params = dict(model.named_parameters())
    for name, tensor in tensors:
        if name in params:
            params[name].data = tensor
        else:
            path, _, own = name.rpartition(".")
            buffer_table(model.get_submodule(path))[own] = tensor


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([t.detach() for t in tensors]).contiguous()
