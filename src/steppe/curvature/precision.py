"""The settings of torch under which a loss can be differentiated twice, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Gradients on; no kernel without a double backward; no TF32."""
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(_full_float32())
        stack.enter_context(_no_fast_encoder())
        # cuDNN's recurrent layers have no double backward, torch's own have one.
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(_set(torch.backends.cudnn, "enabled", False))
        yield


@contextmanager
def _no_fast_encoder() -> Iterator[None]:
    """Keep transformer layers of torch from one kernel that has no derivative.

    They take it where gradients are off.
    """
    mha: Any = torch.backends.mha
    before = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        mha.set_fastpath_enabled(before)


@contextmanager
def _full_float32() -> Iterator[None]:
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
                stack.enter_context(_set(owner, "fp32_precision", "ieee"))
        else:
            for owner in (backends.cuda.matmul, backends.cudnn):
                stack.enter_context(_set(owner, "allow_tf32", False))
        yield


@contextmanager
def _set(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    if before == value:
        yield
        return
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
