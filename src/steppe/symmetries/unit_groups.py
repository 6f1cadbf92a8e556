"""Hidden units that may change places together, read off the graph of a network.

Layers whose activations are added, multiplied or passed on elementwise have units in
one order: a residual stream is one group. Every parameter has the units of the group
that it writes to along one of its dimensions, and those of the group that it reads
along another. Heads of an attention are units with several entries each, which queries,
keys and values share; the entries of a head keep their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from steppe.errors import UsageError
from steppe.graphs.graph_attributes import (
    convolution_settings,
    running_mean,
    running_variance,
)
from steppe.graphs.heads import Heads
from steppe.graphs.network_graph import FIXED, Link, Structure, Use, structure
from steppe.objective import Objective

Place = tuple[str, int]  # name of a tensor, and a dimension of it


@dataclass(frozen=True)
class UnitGroup:
    """Units that may change places in all of their tensors at once.

    Attributes:
        size: number of units.
        places: dimensions along which tensors have them. A dimension that is a
            multiple of the size has neighbouring entries for each unit, as a linear
            layer behind a flattened picture has them.
        block: entries of each unit, where a dimension may have all units several times,
            one section after the other; None where it has them once.
    """

    size: int
    places: tuple[Place, ...]
    block: int | None = None


def unit_groups(objective: Objective) -> list[UnitGroup]:
    """All groups of hidden units that the order of parameters shows.

    Units of inputs and outputs have fixed places, and so have units that a constant is
    added to, or that an operation without a rule reads. Call it inside
    `objective.measuring()`; the first batch is run once.

    Raises:
        UsageError: the model does not give one tensor with a graph in one call.
    """
    named = dict(objective.model.named_parameters())
    frozen = [p for p in named.values() if not p.requires_grad]
    # A frozen layer moves along, too, so that the graph has to show it.
    for p in frozen:
        p.requires_grad_(p.is_floating_point())
    try:
        network = structure(_outputs(objective), {p: n for n, p in named.items()})
        return _groups(network, objective.model)
    finally:
        for p in frozen:
            p.requires_grad_(False)


def permuted(
    state: Mapping[str, Tensor], groups: Sequence[UnitGroup], orders: Sequence[Tensor]
) -> dict[str, Tensor]:
    """Tensors with their units in other orders.

    Args:
        state: tensors by name.
        groups: of units.
        orders: for each group the old place of each unit, shape (size,).
    """
    moved = dict(state)
    for group, order in zip(groups, orders, strict=True):
        for name, dim in group.places:
            moved[name] = reordered(moved[name], dim, order, group.block)
    return moved


def reordered(
    tensor: Tensor, dim: int, order: Tensor, block: int | None = None
) -> Tensor:
    """A tensor with the units along a dimension in another order.

    Args:
        tensor: with the units.
        dim: along which it has them.
        order: the old place of each unit.
        block: entries of each unit; None for all that there are.
    """
    blocks = in_blocks(tensor, dim, len(order), block)
    moved = blocks.index_select(dim + 1, order.to(tensor.device))
    return moved.reshape(tensor.shape)


def in_blocks(tensor: Tensor, dim: int, size: int, block: int | None) -> Tensor:
    """A tensor with sections, units and entries in place of one dimension."""
    before, after = tensor.shape[:dim], tensor.shape[dim + 1 :]
    block = block or tensor.shape[dim] // size
    return tensor.reshape(*before, -1, size, block, *after)


def _outputs(objective: Objective) -> Tensor:
    """Outputs of the model on the first batch, with their graph, as it predicts."""
    seen: list[object] = []
    # Batch statistics would mix the rows; the order of units is the same.
    objective.model.eval()
    try:
        handle = objective.model.register_forward_hook(
            lambda _module, _inputs, output: seen.append(output)
        )
        try:
            with torch.enable_grad():
                objective.losses_on(objective.batch(0))
        finally:
            handle.remove()
    finally:
        objective.model.train(objective.mode == "train")
    if len(seen) != 1 or not isinstance(seen[0], Tensor) or seen[0].grad_fn is None:
        raise UsageError(
            "the units of a network are read off the graph of its outputs, but the "
            "model is not called exactly once for one tensor that depends on its "
            "parameters; wrap it in a module that is."
        )
    return seen[0]


class _Streams:
    """Streams of activations, of which some turn out to have one order of units."""

    def __init__(self, count: int) -> None:
        self.parents = list(range(count))

    def of(self, stream: int) -> int:
        while self.parents[stream] != stream:
            stream = self.parents[stream]
        return stream

    def join(self, one: int, other: int) -> None:
        one, other = self.of(one), self.of(other)
        # The stream of inputs, outputs and constants stays the root.
        self.parents[max(one, other)] = min(one, other)


def _groups(network: Structure, model: nn.Module) -> list[UnitGroup]:
    parameters = dict(model.named_parameters())
    # By memory: the graph has saved buffers as other tensor objects.
    buffers = {b.data_ptr(): name for name, b in model.named_buffers() if b.numel()}
    links = {(link.name, link.operation): link for link in network.links}
    streams = _Streams(network.streams)
    placed: dict[Place, int] = {}
    for use in network.uses:
        link = links.get((use.name, use.operation))
        if link is None:
            continue
        for place, stream in _places(use, link, parameters[use.name], streams, buffers):
            # A parameter that is used twice gives both uses one order of units.
            streams.join(placed.setdefault(place, stream), stream)
    by_stream: dict[int, list[Place]] = {}
    for place, stream in placed.items():
        if (root := streams.of(stream)) != FIXED:
            by_stream.setdefault(root, []).append(place)
    tensors = {**parameters, **dict(model.named_buffers())}
    heads = {streams.of(stream): each for stream, each in network.heads.items()}
    made = [
        _group(places, tensors, heads.get(root)) for root, places in by_stream.items()
    ]
    return [group for group in made if group is not None]


def _group(
    places: list[Place], tensors: Mapping[str, Tensor], heads: Heads | None
) -> UnitGroup | None:
    sizes = [tensors[name].shape[dim] for name, dim in places]
    size, whole, block = min(sizes), min(sizes), None
    if heads is not None:
        size, whole = heads.entries // heads.share, heads.entries
        block = heads.share
    # Streams that are cut or put together have no one number of units.
    if size < 2 or any(each % whole for each in sizes):
        return None
    return UnitGroup(size, tuple(places), block)


def _places(
    use: Use,
    link: Link,
    parameter: Tensor,
    streams: _Streams,
    buffers: Mapping[int, str],
) -> list[tuple[Place, int]]:
    """Dimensions of a parameter, and of statistics with it, that have units."""
    name = use.name
    if use.kind == "linear":
        out, inward = (0, 1) if use.transposed else (1, 0)
        return [((name, out), link.target), ((name, inward), link.source)]
    if use.kind == "convolution":
        return _of_convolution(use, link, parameter, streams)
    if use.kind == "embedding":
        return [((name, 1), link.target)]
    long = [dim for dim, length in enumerate(parameter.shape) if length > 1]
    if use.kind == "other" or len(long) > 1:
        streams.join(link.source, FIXED)
        streams.join(link.target, FIXED)
        return []
    if not link.bias:  # it scales each unit alone
        streams.join(link.source, link.target)
    places = [((name, dim), link.target) for dim in long]
    if use.kind == "batch_norm":
        statistics = running_mean(use.operation), running_variance(use.operation)
        memory = [t.data_ptr() for t in statistics]
        places += [((buffers[m], 0), link.target) for m in memory if m in buffers]
    return places


def _of_convolution(
    use: Use, link: Link, parameter: Tensor, streams: _Streams
) -> list[tuple[Place, int]]:
    settings = convolution_settings(use.operation)
    out, inward = (1, 0) if settings.transposed else (0, 1)
    if settings.groups == 1:
        return [((use.name, out), link.target), ((use.name, inward), link.source)]
    streams.join(link.source, link.target)
    if parameter.shape[0] == settings.groups and parameter.shape[1] == 1:
        return [((use.name, 0), link.target)]  # each channel is filtered alone
    streams.join(link.target, FIXED)
    return []
