"""Heads of attentions, read off the shapes in a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch.autograd.graph import Node

from steppe.graphs.graph_attributes import output_shape
from steppe.graphs.operations import RESHAPES

ATTENTION = "ScaledDotProduct"  # that names of torch's fused attentions begin with


@dataclass(frozen=True)
class Heads:
    """Units of a stream that stand in blocks, as attention by several heads has them.

    A tensor of the stream has sections (such as queries, keys and values), in each of
    them all heads, and entries of each head, in this order.
    """

    entries: int  # of all heads together
    share: int  # of each head


@dataclass
class HeadReader:
    """Splits of activations into heads, and their products."""

    splits: list[tuple[Node, Heads]] = field(default_factory=list)
    products: list[Node] = field(default_factory=list)

    def see(self, node: Node, name: str) -> None:
        """Note a fused attention, or a last dimension that is divided among several."""
        if name.startswith(ATTENTION):
            self.products.append(node)
        if name not in RESHAPES:
            return
        child, slot = node.next_functions[0]
        whole, parts = output_shape(child, slot)[-1:], output_shape(node)[-1:]
        if whole and parts and 0 < parts[0] < whole[0] and whole[0] % parts[0] == 0:
            self.splits.append((node, Heads(whole[0], parts[0])))

    def multiply(self, node: Node) -> None:
        """Note a product of two activations."""
        self.products.append(node)

    def by_stream(
        self,
        stream: Callable[[Node], Node | None],
        number: Mapping[Node | None, int],
    ) -> dict[int, Heads]:
        """The finest split of each stream that has a product of activations.

        Args:
            stream: of an activation.
            number: of the streams that have one.
        """
        multiplied = {stream(node) for node in self.products}
        heads: dict[int, Heads] = {}
        for node, split in sorted(self.splits, key=lambda each: -each[1].share):
            root = stream(node)
            if root in multiplied and root in number:
                heads[number[root]] = split
        return heads
