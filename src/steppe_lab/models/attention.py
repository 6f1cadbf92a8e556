"""Attention by several heads, and waves that say where a token stands.

Source: Vaswani et al., 2017, arXiv:1706.03762, Sections 3.2 and 3.5.

Shape letters: B samples, Q positions that look, K positions that are looked at.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from steppe.errors import SettingError
from steppe.registry.bounds import Range, Ranges, at_least
from steppe_lab.models.model_registry import check_settings

BOUNDS: Ranges = {
    "d_model": at_least(1),
    "n_head": at_least(1),
    "n_layer": Range(1, 1000, whole=True),
    "ffn_hidden": at_least(1),
    "dropout": Range(0.0, 1.0, below=True),
}


def check_transformer(
    model: str, *, classes: int, d_model: int, n_head: int, **others: float
) -> None:
    """Refuse settings of a transformer out of their ranges.

    Args:
        model: its name, for messages.
        classes: number of outputs.
        d_model: features of each position.
        n_head: heads of the attention, which must divide d_model.
        others: the other settings of `BOUNDS`.

    Raises:
        SettingError: names the setting, the rule and the value.
    """
    check_settings(BOUNDS, classes=classes, d_model=d_model, n_head=n_head, **others)
    if d_model % n_head:
        raise SettingError(
            f"n_head must divide d_model = {d_model}, got {n_head} for {model}."
        )


def positions(length: int, features: int) -> Tensor:
    """Sines and cosines of the times, shape (length, features); Section 3.5."""
    # By numpy: where only shapes are asked for, torch computes nothing of it.
    times = np.arange(length)[:, None]
    angles = times / 10_000.0 ** (np.arange(0, features, 2) / features)
    waves = np.stack((np.sin(angles), np.cos(angles)), axis=2)
    return torch.tensor(waves.reshape(length, -1)[:, :features], dtype=torch.float32)


class Attention(nn.Module):
    """Attention of positions to positions, by several heads.

    Args:
        features: of each position.
        heads: that share the features.
        dropout: share of the weights of the attention that is dropped.
    """

    def __init__(self, features: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)
        self.output = nn.Linear(features, features)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(
        self, x: Tensor, seen: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """Weighted means of values for each position that looks, (B, Q, features).

        Args:
            x: features of the positions that look, (B, Q, features).
            seen: of those that are looked at, (B, K, features); None for the same.
            hidden: those that must not be looked at, bool that goes with (B, heads, Q,
                K); None for none.
        """
        return self.attended(x, self.looked_at(x if seen is None else seen), hidden)

    def looked_at(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of positions (B, K, features), (B, heads, K, share) each."""
        return self._by_head(self.key(x)), self._by_head(self.value(x))

    def attended(
        self, x: Tensor, seen: tuple[Tensor, Tensor], hidden: Tensor | None = None
    ) -> Tensor:
        """The same of positions whose keys and values are known."""
        query, (key, value) = self._by_head(self.query(x)), seen
        # Torch's fused attention cannot be differentiated twice.
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        if hidden is not None:
            scores = scores.masked_fill(hidden, -math.inf)
        heads = self.dropout(scores.softmax(dim=-1)) @ value
        attended: Tensor = self.output(heads.transpose(1, 2).flatten(2))
        return attended

    def _by_head(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)
