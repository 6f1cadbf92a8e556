"""TUDataset: collections of graphs with a class each, such as molecules.

Source: Morris et al., 2020, arXiv:2007.08663; the raw text files NAME_A.txt (edges),
NAME_graph_indicator.txt, NAME_graph_labels.txt, NAME_node_labels.txt and, where there
are any, NAME_node_attributes.txt. Node features are the attributes, then the node
labels one-hot, as PyTorch Geometric reads them; edge labels are not used.

The sets have no official split. One permutation, `torch.randperm` on a generator with
seed 12345, is fixed for good: the first 70 % are the training pool, as in the graph
network example of the Polytechnic course project on SAM (CS-439, 2023).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from steppe.errors import DataError, SettingError
from steppe_lab.datasets.abstract import DATASETS, Dataset, Size
from steppe_lab.datasets.formats.numbers import read_numbers
from steppe_lab.datasets.formats.published import (
    Download,
    Published,
    folder_of,
)
from steppe_lab.datasets.graphs import GraphSamples, boundaries

URL = "https://www.chrsmrrs.com/graphkerneldatasets/{name}.zip"
PUBLISHED = Published(
    name="tudataset:{name}",
    title="TUDataset {name}",
    url=URL,
    downloads=(Download(URL),),  # of unknown size, without a published digest
    top="{name}",
    folders=("tudataset/{name}/raw", "tudataset/{name}", "{name}/raw", "{name}"),
    put_into="tudataset",
    unpack=True,
    suffixes=(".txt",),
)
SPLIT_SEED = 12345
SHARE = 0.7  # of the graphs, for training
MOST_LABELS = 10_000  # of nodes; collections have up to a few hundred
SIZES = {  # graphs, features of a node, classes
    "MUTAG": (188, 7, 2),
    "Mutagenicity": (4337, 14, 2),
}


def _size(name: str) -> Size | None:
    """The size of a collection that is known without its files."""
    if name not in SIZES:
        return None
    graphs, features, classes = SIZES[name]
    pool = int(SHARE * graphs)
    return Size(train=pool, test=graphs - pool, in_shape=(features,), outputs=classes)


@DATASETS.add(
    "tudataset",
    source="Morris et al., 2020, arXiv:2007.08663",
    folders=("tudataset",),
    published=PUBLISHED,
    size=_size,
)
def tudataset(*, data_dir: Path | None = None, name: str = "Mutagenicity") -> Dataset:
    """Graphs of a TUDataset collection, such as MUTAG, PROTEINS or Mutagenicity.

    Args:
        data_dir: folder that holds tudataset/NAME/raw, NAME/raw or the files.
        name: of the collection.
    """
    if not re.fullmatch(r"\w[\w-]*", name):
        raise SettingError(
            f"name must be that of a collection, such as Mutagenicity, got '{name}'."
        )
    published = PUBLISHED.named({"name": name})
    needed = [f"{name}_{kind}" for kind in ("A", "graph_indicator", "graph_labels")]
    folder = folder_of(published, data_dir, needed)
    graph_of = _numbers(folder / f"{name}_graph_indicator.txt")[:, 0] - 1
    labels = _numbers(folder / f"{name}_graph_labels.txt")[:, 0]
    edges = _numbers(folder / f"{name}_A.txt") - 1
    _check(folder / name, graph_of, labels, edges)
    samples, classes = _samples(
        _features(folder, name, len(graph_of)), graph_of, labels, edges
    )
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    order = torch.randperm(len(labels), generator=generator)
    pool = int(SHARE * len(labels))
    return Dataset(
        name="tudataset",
        train=samples.chosen(order[:pool]),
        test=samples.chosen(order[pool:]),
        classes=classes,
    )


def _samples(
    features: Tensor,
    graph_of: NDArray[np.int64],
    labels: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> tuple[GraphSamples, tuple[str, ...]]:
    """All graphs in the order of the files, and the names of their classes."""
    names, targets = np.unique(labels, return_inverse=True)
    node_graph = torch.from_numpy(graph_of)
    first_node = boundaries(node_graph, len(labels))
    # Each edge once, without loops, sorted: the form PyTorch Geometric gives them.
    ends = np.unique(edges[edges[:, 0] != edges[:, 1]], axis=0)
    from_graph = node_graph[torch.from_numpy(ends[:, 0])]
    within = torch.from_numpy(ends.T.copy()) - first_node[from_graph]
    return GraphSamples(
        features=features,
        edges=within,
        first_node=first_node,
        first_edge=boundaries(from_graph, len(labels)),
        graphs=torch.arange(len(labels)),
        targets=torch.from_numpy(targets.astype(np.int64)),
    ), tuple(map(str, names))


def _features(folder: Path, name: str, nodes: int) -> Tensor:
    """Attributes and one-hot labels of all nodes, (V, F) float32."""
    parts: list[Tensor] = []
    attributes = folder / f"{name}_node_attributes.txt"
    if attributes.is_file():
        parts.append(torch.from_numpy(_numbers(attributes, np.float32)))
    for_labels = folder / f"{name}_node_labels.txt"
    if for_labels.is_file():
        columns = torch.from_numpy(_numbers(for_labels)).T
        if int(columns.max()) - int(columns.min()) > MOST_LABELS:
            raise DataError(
                f"{for_labels} must have at most {MOST_LABELS} kinds of nodes, got "
                f"labels from {int(columns.min())} to {int(columns.max())}; use the "
                "unchanged official file."
            )
        parts += [F.one_hot(each - each.min()).to(torch.float32) for each in columns]
    if not parts:
        raise DataError(
            f"{folder} must hold {name}_node_labels.txt or {name}_node_attributes.txt; "
            "collections without node features cannot be read."
        )
    for part in parts:
        if len(part) != nodes:
            raise DataError(
                f"{folder} must have one line of node features for each of the "
                f"{nodes:,} nodes, got {len(part):,}; use the unchanged official files."
            )
    features = torch.cat(parts, dim=1)
    if not features.isfinite().all():
        raise DataError(
            f"{attributes} must hold finite numbers; use the unchanged official file."
        )
    return features


def _numbers(path: Path, kind: type = np.int64) -> NDArray[np.int64]:
    """Lines of numbers with commas between them, (lines, numbers)."""
    return read_numbers(path, kind, "use the unchanged official file")


def _check(
    place: Path,
    graph_of: NDArray[np.int64],
    labels: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> None:
    """Refuse files that contradict each other."""
    graphs, nodes = len(labels), len(graph_of)
    reason = ""
    if nodes == 0 or graphs == 0:
        reason = "they hold no graph"
    elif (np.diff(graph_of) < 0).any() or graph_of[0] != 0 or graph_of[-1] >= graphs:
        reason = f"the graph indicator does not count from 1 to at most {graphs:,}"
    elif len(edges) and (
        edges.shape[1] != 2 or edges.min() < 0 or edges.max() >= nodes
    ):
        reason = f"edges must join two of the {nodes:,} nodes"
    elif (graph_of[edges[:, 0]] != graph_of[edges[:, 1]]).any():
        reason = "an edge joins nodes of two graphs"
    if reason:
        raise DataError(
            f"the files {place}_*.txt contradict each other: {reason}; use the "
            "unchanged official files."
        )
