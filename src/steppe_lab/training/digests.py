"""SHA-256 of tensors and plain values: the same for equal contents, however saved."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor


def bytes_of(tensor: Tensor) -> bytes:
    """The bits of a dense tensor, row by row, wherever it lies."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    content: bytes = flat.view(torch.uint8).numpy().tobytes()
    return content


def digest(value: Any) -> str:
    """SHA-256 of tensors, texts and numbers in mappings and sequences, in hexadecimal.

    The order of a mapping does not count.

    Example:
        >>> digest({"a": 1, "b": [2.5]}) == digest({"b": [2.5], "a": 1})
        True
    """
    if isinstance(value, Tensor):
        parts = [f"{tuple(value.shape)}{value.dtype}".encode(), bytes_of(value)]
    elif isinstance(value, Mapping):
        parts = sorted(
            f"{key!r}:{digest(each)}".encode() for key, each in value.items()
        )
    elif isinstance(value, list | tuple):
        parts = [digest(each).encode() for each in value]
    else:
        parts = [repr(value).encode()]
    kind = "Sequence" if isinstance(value, list | tuple) else type(value).__name__
    kind = "Mapping" if isinstance(value, Mapping) else kind
    total = hashlib.sha256(kind.encode())
    for part in parts:
        total.update(hashlib.sha256(part).digest())
    return total.hexdigest()
