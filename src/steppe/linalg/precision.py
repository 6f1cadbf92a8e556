"""The settings of torch that round products of float32 to fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch


@contextmanager
def full_float32() -> Iterator[None]:
    """Keep 24 bits in products of float32: TF32 keeps 11."""
    backends: Any = torch.backends
    with ExitStack() as stack:
        if hasattr(backends.cuda.matmul, "fp32_precision"):  # torch 2.9 and later
            for owner in (
                backends.cuda.matmul,
                backends.cudnn.conv,
                backends.cudnn.rnn,
                backends.mkldnn.matmul,
                backends.mkldnn.conv,
                backends.mkldnn.rnn,
            ):
                stack.enter_context(setting(owner, "fp32_precision", "ieee"))
        else:
            for owner in (backends.cuda.matmul, backends.cudnn):
                stack.enter_context(setting(owner, "allow_tf32", False))
        yield


@contextmanager
def setting(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Give an attribute another value for a while."""
    before = getattr(owner, name)
    if before == value:
        yield
        return
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
