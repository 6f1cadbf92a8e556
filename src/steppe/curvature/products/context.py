"""The settings of torch under which a loss can be differentiated twice, exactly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from steppe.linalg.precision import full_float32, setting


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Gradients on; no kernel without a double backward; no TF32."""
    with ExitStack() as stack:
        stack.enter_context(torch.enable_grad())
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        stack.enter_context(full_float32())
        stack.enter_context(_no_fast_encoder())
        # cuDNN's recurrent layers have no double backward, torch's own have one.
        if any(isinstance(module, nn.RNNBase) for module in model.modules()):
            stack.enter_context(setting(torch.backends.cudnn, "enabled", False))
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
