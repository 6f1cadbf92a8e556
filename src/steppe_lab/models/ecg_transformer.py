"""Transformer encoder for series such as heartbeats, with a dense head.

Source: Vaswani et al., 2017, arXiv:1706.03762, Sections 3.1 to 3.5 (the encoder), in
the sizes and with the head of the course project on SAM across domains (CS-439, 2023,
francpp/sharpness-aware_minimization): all features of all times go into four dense
layers.
"""

from __future__ import annotations

from torch import Tensor, nn

from steppe.errors import SettingError
from steppe_lab.models.attention import (
    BOUNDS,
    Attention,
    check_transformer,
    positions,
)
from steppe_lab.models.model_registry import MODELS

HEAD = (512, 256, 128)  # units of the dense layers


class _Layer(nn.Module):
    def __init__(self, features: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(features, heads)
        self.first_norm = nn.LayerNorm(features)
        self.dense = nn.Sequential(
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, features),
        )
        self.second_norm = nn.LayerNorm(features)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first_norm(x + self.dropout(self.attention(x)))
        features: Tensor = self.second_norm(x + self.dropout(self.dense(x)))
        return features


class _Transformer(nn.Module):
    times: Tensor

    def __init__(
        self,
        channels: int,
        length: int,
        classes: int,
        *,
        features: int,
        heads: int,
        layers: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(channels, features)
        self.register_buffer("times", positions(length, features), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.layers = nn.Sequential(
            *(_Layer(features, heads, hidden, dropout) for _ in range(layers))
        )
        self.norm = nn.LayerNorm(features)
        dense: list[nn.Module] = [nn.Flatten()]
        inputs = features * length
        for units in HEAD:
            dense += [nn.Linear(inputs, units), nn.ReLU()]
            inputs = units
        self.head = nn.Sequential(*dense, nn.Linear(inputs, classes))

    def forward(self, x: Tensor) -> Tensor:
        series = x.unsqueeze(2) if x.dim() == 2 else x.mT
        embedded = self.dropout(self.embedding(series) + self.times)
        scores: Tensor = self.head(self.norm(self.layers(embedded)))
        return scores


@MODELS.add(
    "ecg_transformer",
    source="Vaswani et al., 2017, arXiv:1706.03762",
    inputs="series",
    bounds=BOUNDS,
)
def ecg_transformer(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    d_model: int = 200,
    n_head: int = 2,
    n_layer: int = 1,
    ffn_hidden: int = 128,
    dropout: float = 0.1,
) -> nn.Module:
    """Transformer with 19,528,109 parameters on heartbeats of 187 samples.

    Args:
        in_shape: (length,) of a series, or (channels, length).
        classes: number of outputs.
        d_model: features of each time.
        n_head: heads of the attention; they divide d_model.
        n_layer: encoder layers.
        ffn_hidden: units of the dense layer in each encoder layer.
        dropout: share of the features that is dropped after the embedding, the
            attention, and in and after the dense layer of each encoder layer.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    check_transformer(
        "ecg_transformer",
        classes=classes,
        d_model=d_model,
        n_head=n_head,
        n_layer=n_layer,
        ffn_hidden=ffn_hidden,
        dropout=dropout,
    )
    if len(in_shape) not in (1, 2) or min(in_shape) < 1:
        raise SettingError(
            "ecg_transformer needs series of shape (length,) or (channels, length), "
            f"got inputs of shape {tuple(in_shape)}."
        )
    channels = in_shape[0] if len(in_shape) == 2 else 1
    return _Transformer(
        channels,
        in_shape[-1],
        classes,
        features=d_model,
        heads=n_head,
        layers=n_layer,
        hidden=ffn_hidden,
        dropout=dropout,
    )
