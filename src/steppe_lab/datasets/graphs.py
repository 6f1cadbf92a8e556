"""Samples that are graphs, made batches of by PyTorch Geometric.

Shape letters: N graphs, V nodes of all graphs, E edges of all graphs, F node features.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor

from steppe.errors import DataError, install
from steppe_lab.datasets.samples import AbstractSamples, Batch


@dataclass(frozen=True, kw_only=True, eq=False)
class GraphSamples(AbstractSamples):
    """Graphs with a class each.

    Nodes and edges of all graphs lie in shared tensors; `graphs` names the graphs that
    are samples, so that choosing some copies no graph.
    """

    features: Tensor  # (V, F) float32, of the nodes
    edges: Tensor  # (2, E) int64, from and to, counted from the first node of a graph
    first_node: Tensor  # of each stored graph, and V at the end
    first_edge: Tensor  # of each stored graph, and E at the end
    graphs: Tensor  # (N,) stored graphs
    targets: Tensor  # (N,) int64

    def count(self) -> int:
        """Number of graphs."""
        return len(self.graphs)

    @property
    def in_shape(self) -> tuple[int, ...]:
        """Features of a node, (F,)."""
        return (self.features.shape[1],)

    def chosen(self, positions: Tensor) -> Self:
        """The graphs at some positions, in that order."""
        return replace(
            self, graphs=self.graphs[positions], targets=self.targets[positions]
        )

    def with_targets(self, targets: Tensor) -> Self:
        """The same graphs with other classes."""
        return replace(self, targets=targets)

    def targets_at(self, positions: Tensor | slice) -> Tensor:
        """Classes at some positions."""
        return self.targets[positions]

    def batch(self, positions: Tensor | slice) -> Batch:
        """A `torch_geometric.data.Batch`, and the classes of its B graphs."""
        graphs = [self._graph(int(each)) for each in self.graphs[positions]]
        return _geometric().Batch.from_data_list(graphs), self.targets[positions]

    def micro_batch(self, batch: Batch, rows: Tensor) -> Batch:
        """Some neighbouring graphs of a batch."""
        inputs, targets = batch
        graphs = inputs.index_select(rows.cpu())
        return _geometric().Batch.from_data_list(graphs), targets[rows]

    def arrays(self) -> Iterator[tuple[str, Iterator[Tensor]]]:
        """Features and edges of each graph, and the classes."""
        graphs = (self._graph(int(each)) for each in self.graphs)
        pieces = (part for graph in graphs for part in (graph.x, graph.edge_index))
        sizes = torch.stack([self.first_node, self.first_edge]).diff()[:, self.graphs]
        shape = f"{self.count()} graphs of {self.features.shape[1]} features "
        yield shape, chain([sizes], pieces)
        yield f"{tuple(self.targets.shape)} {self.targets.dtype} ", iter([self.targets])

    def _graph(self, number: int) -> Any:
        nodes = slice(int(self.first_node[number]), int(self.first_node[number + 1]))
        edges = slice(int(self.first_edge[number]), int(self.first_edge[number + 1]))
        return _geometric().Data(
            x=self.features[nodes], edge_index=self.edges[:, edges]
        )


def _geometric() -> Any:
    """The data classes of PyTorch Geometric, imported where graphs become a batch."""
    try:
        import torch_geometric.data
    except ImportError as error:
        raise DataError(
            f"graphs need PyTorch Geometric; {install('graphs')}."
        ) from error
    return torch_geometric.data


def boundaries(of: Tensor, count: int) -> Tensor:
    """Where each of `count` runs of equal numbers begins, and the end; ascending."""
    return torch.searchsorted(of.contiguous(), torch.arange(count + 1))
