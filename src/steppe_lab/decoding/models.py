"""Networks that translate, as searches call them: a token at a time.

Shape letters: B sentences, S positions of the longest source, T those of a target so
far, V vocabulary.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from steppe.errors import SettingError


class NextTokens(Protocol):
    """A network that reads a source once and predicts its translation by tokens."""

    def encode(self, source: Tensor) -> Any:
        """Memory of sources (B, S) for the decoder."""

    def begin(self, memory: Any, source: Tensor) -> Any:
        """State before the first token: tensors whose first axis is B."""

    def follow(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits (B, V) of the token after the next ones (B,), and the new state."""


def next_tokens(model: nn.Module) -> NextTokens:
    """A model as searches call it.

    One that has `begin` and `follow` keeps what it has computed of earlier tokens;
    others decode all tokens so far again for each next one.

    Args:
        model: with `encode(source)`, which gives a memory of tensors whose first axis
            is B, and `decode(target, memory, source)`, which gives logits (B, T, V).

    Raises:
        SettingError: a model without these methods.
    """

    def has(*names: str) -> bool:
        return all(callable(getattr(model, name, None)) for name in names)

    whole: Any = model
    if has("encode", "begin", "follow"):
        return whole  # type: ignore[no-any-return]
    if not has("encode", "decode"):
        raise SettingError(
            "a model of translations needs encode(source) and decode(target, memory, "
            f"source), got {type(model).__name__} without them; give it both, or "
            "choose translation_transformer."
        )
    return _Whole(whole)


class _Whole:
    """A model that decodes all tokens so far for each next one."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def encode(self, source: Tensor) -> Any:
        return self._model.encode(source)

    def begin(self, memory: Any, source: Tensor) -> Any:
        return source[:, :0], memory, source

    def follow(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        before, memory, source = state
        target = torch.cat([before, tokens[:, None]], 1)
        logits = self._model.decode(target, memory, source)[:, -1]
        return logits, (target, memory, source)
