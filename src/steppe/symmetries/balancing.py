"""Balanced coordinates: every filter, with its bias, has length one.

Source: Bisla et al., 2022, arXiv:2201.08025, whose code divides each filter by the sum
of its norm and the size of its bias, each channel of batch norm by the sum of the sizes
of its factor and its shift, and multiplies by what it divided by in the forward pass.

The network keeps its function, so this is a change of coordinates: parameters are
scales times balanced ones. A matrix H of second derivatives has the entries
scale_i H_ij scale_j in them, and noise of deviation sigma there has the deviation
sigma * scale here.

Shape letters: P parameter tensors.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from steppe.noise import filter_scales
from steppe.parameters import trainable

Transposed = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d


@torch.no_grad()
def balancing_scales(model: nn.Module, params: Sequence[Tensor]) -> list[Tensor]:
    """Scales of the parameters: the length of the filter that each belongs to.

    A filter is an output of a layer: its row of the weight and its entry of the bias,
    of length ||row|| + |bias|. A channel of a normalisation has |factor| + |shift|. A
    parameter of another kind has the norm of each row, or of the whole vector.

    Args:
        model: at its present parameters.
        params: P of its parameters.

    Returns:
        P tensors that broadcast against the parameters; 0 where a filter is zero.
    """
    known: dict[Tensor, Tensor] = {}
    for module in model.modules():
        for weight, bias in _pairs(module):
            for p, scale in _filters(module, weight, bias):
                known.setdefault(p, scale)
    others = [p for p in params if p not in known]
    known.update(zip(others, filter_scales(others), strict=True))
    return [known[p] for p in params]


class Balanced(nn.Module):
    """A network in balanced coordinates, with the function of the one it was made of.

    Its parameters that require a gradient are those of the network over their
    `balancing_scales`, which stay as they are. A filter of zeros has no direction: its
    balanced parameters are zero and change nothing.

    Args:
        model: is copied.

    Example:
        >>> layer = nn.Linear(2, 1, bias=False)
        >>> with torch.no_grad():
        ...     _ = layer.weight.copy_(torch.tensor([[3.0, 4.0]]))
        >>> Balanced(layer).coordinates[0].tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(model)
        named = trainable(self.network)
        scales = balancing_scales(self.network, list(named.values()))
        self.names = tuple(named)
        self.coordinates = nn.ParameterList(
            torch.where(scale > 0, p.detach() / scale, 0.0)
            for p, scale in zip(named.values(), scales, strict=True)
        )
        self.scales = nn.ParameterList(
            nn.Parameter(scale, requires_grad=False) for scale in scales
        )
        self.network.requires_grad_(False)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """The outputs of the network."""
        triples = zip(self.names, self.scales, self.coordinates, strict=True)
        values = {name: scale * p for name, scale, p in triples}
        return torch.func.functional_call(self.network, values, inputs, keywords)


def _pairs(module: nn.Module) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Weights and biases of a layer, which its names connect."""
    own = dict(module.named_parameters(recurse=False))
    for name, p in own.items():
        if "weight" in name:
            yield p, own.get(name.replace("weight", "bias"))


def _filters(
    module: nn.Module, weight: Tensor, bias: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """A weight and its bias with their scales."""
    if weight.dim() < 2:
        if "norm" not in type(module).__name__.lower():
            return []
        scale = weight.abs() if bias is None else weight.abs() + bias.abs()
        return [(p, scale) for p in (weight, bias) if p is not None]
    if isinstance(module, Transposed):
        return _transposed(module, weight, bias)
    rows = filter_scales([weight])[0]
    if bias is None or bias.shape != weight.shape[:1]:
        return [(weight, rows)]
    sizes = bias.abs() + rows.flatten()
    return [(weight, sizes.view_as(rows)), (bias, sizes)]


def _transposed(
    module: Transposed, weight: Tensor, bias: Tensor | None
) -> list[tuple[Tensor, Tensor]]:
    """The same for weights of shape (inputs, outputs / groups, ...)."""
    groups = module.groups
    each = len(weight) // groups  # inputs of a group
    parts = weight.reshape(groups, each, weight.shape[1], -1)
    sizes = torch.linalg.vector_norm(parts, dim=(1, 3)).flatten()
    if bias is not None:
        sizes = sizes + bias.abs()
    of_inputs = sizes.view(groups, -1).repeat_interleave(each, 0)
    scale = of_inputs.reshape(*weight.shape[:2], *(1,) * (weight.dim() - 2))
    return [(weight, scale)] + ([] if bias is None else [(bias, sizes)])
