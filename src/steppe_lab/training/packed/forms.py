"""The form in which networks are packed: the first that agrees with each alone.

Shape letters: K networks, B batch, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from steppe.registry.registry import one_line
from steppe_lab.training.packed.network import (
    AbstractPackedNetwork,
    CannotPackError,
    FoldedNetwork,
    MappedNetwork,
)
from steppe_lab.training.packed.stack import Stack

ROWS = 5  # of each network, in the comparison with the network alone
# Differences relative to the largest number, far above rounding in float64 and float32.
_TOLERANCES = {torch.float64: 1e-8, torch.float32: 1e-3}


def packed_form_of(
    models: Sequence[nn.Module], samples: Any
) -> type[AbstractPackedNetwork]:
    """The first form whose outputs, gradients and statistics are those of each network.

    Args:
        models: two networks of the structure, which are copied.
        samples: inputs of N samples, twice `ROWS` or fewer.

    Raises:
        CannotPackError: there is none.
    """
    if not isinstance(samples, Tensor):
        raise CannotPackError("its inputs are no tensors")
    if not all(p.requires_grad for p in models[0].parameters()):
        raise CannotPackError("parameters of its network are not trained")
    reason = ""
    for form in (FoldedNetwork, MappedNetwork):
        for dtype in _TOLERANCES:
            try:
                reason = _difference(form, models, samples, dtype)
            except Exception as error:  # of code of the user, on inputs of another form
                reason = one_line(error)
                continue
            if not reason:
                return form
            break
    raise CannotPackError(f"its network cannot be packed ({reason})")


def _difference(
    form: type[AbstractPackedNetwork],
    models: Sequence[nn.Module],
    samples: Tensor,
    dtype: torch.dtype,
) -> str:
    """How a packed network differs from its networks alone; "" where it does not."""
    alone = [deepcopy(model) for model in models]
    if dtype is torch.float64:
        alone = [model.double() for model in alone]
        samples = samples.double() if samples.is_floating_point() else samples
    network = form(Stack([deepcopy(model) for model in alone]))
    # Other samples for each: where weights are the same, mixed rows would not show.
    places = [torch.arange(ROWS) + ROWS * k for k in range(len(models))]
    inputs = torch.stack([samples[rows % len(samples)] for rows in places])
    for training in (True, False):
        random = torch.get_rng_state()
        leaves = [p.detach().requires_grad_() for p in network.stack.params]
        outputs = network(leaves, inputs, training=training, statistics=training)
        grads = torch.autograd.grad(outputs.square().sum(), leaves, allow_unused=True)
        if not torch.equal(random, torch.get_rng_state()):
            torch.set_rng_state(random)
            return "it draws random numbers"
        if any(grad is None for grad in grads):
            return "it has parameters without a gradient"
        for place, model in enumerate(alone):
            own, of_own = _alone(model.train(training), inputs[place])
            if own.shape != outputs.shape[1:]:
                return "its outputs have another shape"
            pairs = [(own, outputs[place])]
            pairs += [(g, of_all[place]) for g, of_all in zip(of_own, grads)]
            buffers = network.stack.buffers
            pairs += [(b, buffers[n][place]) for n, b in model.named_buffers()]
            if not all(_close(*pair, _TOLERANCES[dtype]) for pair in pairs):
                return "its outputs, gradients or statistics differ"
    return ""


def _alone(model: nn.Module, inputs: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
    """Outputs of one network, and the gradients of the sum of their squares."""
    outputs: Tensor = model(inputs)
    grads = torch.autograd.grad(outputs.square().sum(), list(model.parameters()))
    return outputs, grads


def _close(one: Tensor, other: Tensor, tolerance: float) -> bool:
    one, other = one.detach().double(), other.detach().double()
    scale = float(one.abs().max()) if one.numel() else 0.0
    return bool((one - other).abs().le(tolerance * max(scale, 1.0)).all())
