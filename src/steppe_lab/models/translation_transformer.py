"""Transformer that translates: an encoder of the source, a decoder of the target.

Source: Vaswani et al., 2017, arXiv:1706.03762, Sections 3.1 to 3.5, in the size of
LPF-SGD (Bisla, Wang and Choromanska, 2022, arXiv:2201.08025), Table 7. As in the code
of that paper, and unlike Vaswani et al., encoder and decoder end with a layer norm, the
weights of the attention are dropped out too, and the layer before the logits is one of
its own with a bias: source and target share one table of embeddings. Differences from
that code: the matrices of queries, keys and values are drawn one by one (Glorot and
Bengio, 2010, uniform), and all biases begin at 0.

Shape letters: B sentences, S positions of the longest source, T those of the longest
target, V tokens of the vocabulary.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from steppe.errors import SettingError
from steppe_lab.models.attention import (
    BOUNDS,
    Attention,
    check_transformer,
    positions,
)
from steppe_lab.models.model_registry import MODELS

PAD = 1  # the token of padding in sources
SCORED, LENGTH, LOGITS = 256, 64, 2**26  # sentences, their positions, numbers at once


Seen = tuple[Tensor, Tensor]  # keys and values, (B, heads, positions, share) each


class _Dense(nn.Sequential):
    def __init__(self, features: int, hidden: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(features, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, features),
        )


class _EncoderLayer(nn.Module):
    def __init__(self, features: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(features, heads, dropout)
        self.dense = _Dense(features, hidden, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        first, second = self.norms
        x = first(x + self.dropout(self.attention(x, hidden=padding)))
        features: Tensor = second(x + self.dropout(self.dense(x)))
        return features


class _DecoderLayer(nn.Module):
    def __init__(self, features: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.attention = Attention(features, heads, dropout)
        self.source_attention = Attention(features, heads, dropout)
        self.dense = _Dense(features, hidden, dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(features) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, own: Seen, source: Seen, later: Tensor | None, padding: Tensor
    ) -> Tensor:
        first, second, third = self.norms
        x = first(x + self.dropout(self.attention.attended(x, own, later)))
        attended = self.source_attention.attended(x, source, padding)
        x = second(x + self.dropout(attended))
        features: Tensor = third(x + self.dropout(self.dense(x)))
        return features


class _TranslationTransformer(nn.Module):
    places: Tensor

    def __init__(
        self,
        length: int,
        vocabulary: int,
        *,
        features: int,
        heads: int,
        layers: int,
        hidden: int,
        dropout: float,
    ) -> None:
        super().__init__()
        sizes = (features, heads, hidden, dropout)
        self.embedding = nn.Embedding(vocabulary, features)
        self.register_buffer("places", positions(length, features), persistent=False)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(_EncoderLayer(*sizes) for _ in range(layers))
        self.encoder_norm = nn.LayerNorm(features)
        self.decoder = nn.ModuleList(_DecoderLayer(*sizes) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(features)
        self.head = nn.Linear(features, vocabulary)
        # Logits of many sentences at once would fill the memory.
        self.score_batch = max(1, min(SCORED, LOGITS // (LENGTH * vocabulary)))
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, sentences: tuple[Tensor, Tensor]) -> Tensor:
        """Logits of the next token at each position, (B, T, V).

        Args:
            sentences: source (B, S), padded with 1, and target so far (B, T).
        """
        source, target = sentences
        return self.decode(target, self.encode(source), source)

    def encode(self, source: Tensor) -> Tensor:
        """Features of a source (B, S), which the decoder looks at, (B, S, features)."""
        padding = _padding(source)
        x = self._embedded(source)
        for layer in self.encoder:
            x = layer(x, padding)
        memory: Tensor = self.encoder_norm(x)
        return memory

    def decode(self, target: Tensor, memory: Tensor, source: Tensor) -> Tensor:
        """Logits of the token after each of a target so far, (B, T, V).

        Args:
            target: so far, (B, T); padding comes last, and what is said there of the
                next token means nothing.
            memory: of the source, from `encode`.
            source: (B, S), which says what in it is padding.
        """
        # Padding of targets comes after all tokens, which do not look there.
        every = torch.ones(2 * target.shape[1:], dtype=torch.bool, device=target.device)
        later, padding = every.triu(1), _padding(source)
        x = self._embedded(target)
        for layer in self._layers:
            own, seen = layer.attention, layer.source_attention
            x = layer(x, own.looked_at(x), seen.looked_at(memory), later, padding)
        logits: Tensor = self.head(self.decoder_norm(x))
        return logits

    def begin(self, memory: Tensor, source: Tensor) -> dict[str, Any]:
        """State of a decoder before its first token; each tensor has B rows.

        Args:
            memory: of the source, from `encode`.
            source: (B, S), which says what in it is padding.
        """
        seen = [layer.source_attention.looked_at(memory) for layer in self._layers]
        none = tuple(each[:, :, :0] for each in seen[0])
        own = [none] * len(seen)
        return {"own": own, "source": seen, "padding": _padding(source)}

    def follow(
        self, tokens: Tensor, state: dict[str, Any]
    ) -> tuple[Tensor, dict[str, Any]]:
        """Logits (B, V) of the token after the next ones (B,), and the new state.

        They are those of `decode` at the last position, up to rounding: keys and values
        of earlier positions are kept, which do not change.
        """
        x = self._embedded(tokens[:, None], first=state["own"][0][0].shape[2])
        own: list[Seen] = []
        for layer, before, source in zip(
            self._layers, state["own"], state["source"], strict=True
        ):
            new = layer.attention.looked_at(x)
            keys, values = (torch.cat(pair, 2) for pair in zip(before, new))
            own.append((keys, values))
            x = layer(x, own[-1], source, None, state["padding"])
        logits: Tensor = self.head(self.decoder_norm(x))[:, 0]
        return logits, state | {"own": own}

    @property
    def _layers(self) -> list[_DecoderLayer]:
        return list(self.decoder)  # type: ignore[arg-type]

    def _embedded(self, tokens: Tensor, first: int = 0) -> Tensor:
        length, features = first + tokens.shape[1], self.places.shape[1]
        places = self.places[first:length]
        if length > len(self.places):  # than all sentences it was built for
            places = positions(length, features).to(places)[first:]
        embedded: Tensor = self.embedding(tokens) * math.sqrt(features) + places
        dropped: Tensor = self.dropout(embedded)
        return dropped


def _padding(source: Tensor) -> Tensor:
    """Positions that hold no token, for all heads and all that look, (B, 1, 1, S)."""
    return (source == PAD)[:, None, None]


@MODELS.add(
    "translation_transformer",
    source="Vaswani et al., 2017, arXiv:1706.03762",
    inputs="tokens",
    bounds=BOUNDS,
)
def translation_transformer(
    in_shape: tuple[int, ...],
    classes: int,
    *,
    d_model: int = 512,
    n_head: int = 8,
    n_layer: int = 3,
    ffn_hidden: int = 512,
    dropout: float = 0.1,
) -> nn.Module:
    """Transformer of 45,424,896 parameters with a shared vocabulary of 32,000.

    Args:
        in_shape: (length,), most positions of a sentence.
        classes: tokens of the vocabulary, which both languages share.
        d_model: features of each token.
        n_head: heads of the attention; they divide d_model.
        n_layer: layers of the encoder, and as many of the decoder.
        ffn_hidden: units of the dense layer in each of them.
        dropout: share of the features that is dropped after the embedding, each
            attention, and in and after each dense layer, and of the attention's
            weights.

    Raises:
        SettingError: a setting or the input shape out of range.
    """
    check_transformer(
        "translation_transformer",
        classes=classes,
        d_model=d_model,
        n_head=n_head,
        n_layer=n_layer,
        ffn_hidden=ffn_hidden,
        dropout=dropout,
    )
    if len(in_shape) != 1 or min(in_shape) < 1:
        raise SettingError(
            "translation_transformer needs sentences of shape (length,), got inputs of "
            f"shape {tuple(in_shape)}."
        )
    return _TranslationTransformer(
        in_shape[0],
        classes,
        features=d_model,
        heads=n_head,
        layers=n_layer,
        hidden=ffn_hidden,
        dropout=dropout,
    )
