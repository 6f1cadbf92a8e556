"""Graph network: four graph convolutions, mean over the nodes, two linear layers.

Source: Morris et al., 2019, arXiv:1810.02244, Equation 3 (the convolution); the network
of the course project on SAM for graphs (CS-439, 2023), which has a fifth convolution
that it never uses. The unused layer is kept, so that the project's weights load, and
gets no gradient. Difference: nothing is dropped unless asked; the project drops 0.8.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

from steppe.errors import SettingError, install
from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.model_registry import MODELS, check_settings

USED = 4  # of five convolutions


class _GraphNetwork(nn.Module):
    def __init__(
        self, features: int, classes: int, hidden: int, dropout: float
    ) -> None:
        super().__init__()
        layers = _layers()
        half = max(1, hidden // 2)
        # Five convolutions, of which the last is there for the project's weights only.
        widths = [features, half, hidden, hidden, hidden, hidden]
        for number, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            self.add_module(f"conv{number}", layers.GraphConv(inputs, outputs))
        self.lin1 = nn.Linear(hidden, half)
        self.lin2 = nn.Linear(half, classes)
        self.dropout = nn.Dropout(dropout)
        self._pool = layers.global_mean_pool

    def forward(self, graphs: Any) -> Tensor:
        x = graphs.x
        for number in range(1, USED + 1):
            x = self.get_submodule(f"conv{number}")(x, graphs.edge_index)
            if number < USED:
                x = x.relu()
        # A mean, so that the scores do not grow with the number of nodes.
        pooled = self._pool(x, graphs.batch, graphs.num_graphs)
        features = self.lin1(self.dropout(pooled))
        scores: Tensor = self.lin2(self.dropout(features))
        return scores


def _layers() -> Any:
    # An extra: all other models work without it.
    try:
        import torch_geometric.nn
    except ImportError as error:
        raise SettingError(
            f"gcn needs PyTorch Geometric; {install('graphs')}."
        ) from error
    return torch_geometric.nn


BOUNDS: Ranges = {"hidden": at_least(1), "dropout": Range(0.0, 1.0, below=True)}


@MODELS.add(
    "gcn",
    source="Morris et al., 2019, arXiv:1810.02244",
    inputs="graphs",
    bounds=BOUNDS,
    later=("dropout",),
)
def gcn(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    hidden: int = 128,
    dropout: float = 0.0,
) -> nn.Module:
    """Graph network with 125,442 parameters on Mutagenicity.

    Args:
        in_shape: (features of a node,).
        classes: number of outputs.
        hidden: features of a node after the second convolution; half after the first.
        dropout: share of the features that is dropped before each linear layer.

    Raises:
        SettingError: inputs that are no graphs, a setting out of range, or PyTorch
            Geometric is not installed.
    """
    check_settings(BOUNDS, classes=classes, hidden=hidden, dropout=dropout)
    if len(in_shape) != 1:
        raise SettingError(
            f"gcn needs graphs, whose nodes have (features,), got inputs of shape "
            f"{tuple(in_shape)}."
        )
    return _GraphNetwork(in_shape[0], classes, hidden, dropout)
