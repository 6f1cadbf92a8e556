"""How the gradients of single samples follow from each use of a parameter.

The network's own graph holds all that is needed: what every operation saved for its
backward pass, and the gradients that arrive at its output.

Shape letters: B samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

from steppe.curvature.per_sample.gradients import (
    AbstractGradients,
    CacheBudget,
    Gathered,
    Layout,
    Reduced,
    layouts,
)
from steppe.curvature.per_sample.outer_products import (
    Convolution,
    Linear,
    TransposedConvolution,
)
from steppe.errors import UsageError
from steppe.graphs.graph_attributes import (
    bias_factor,
    convolution_settings,
    first_matrix,
    layer_input,
    operand,
    output_shape,
    product_factor,
    running_statistics,
    sample_statistics,
    scales_by_frequency,
)
from steppe.graphs.network_graph import Use, operation

Shape = tuple[int, ...]
ALTERNATIVE = "leave it out with params=, or use trace(GGN(objective))"


def gradients_at(z: Tensor, nodes: Sequence[Node], seed: Tensor) -> list[Tensor | None]:
    """Gradients by the outputs of operations, None where z does not depend on one.

    Args:
        z: outputs of the model with their graph, which is kept.
        nodes: the operations.
        seed: gradient by z, shaped like it.
    """
    if not nodes:
        return []
    edges = [GradientEdge(node, 0) for node in nodes]
    grads = torch.autograd.grad(z, edges, seed, retain_graph=True, allow_unused=True)
    return list(grads)


def find_layouts(z: Tensor, uses: Sequence[Use]) -> dict[Node, Layout]:
    """Where the samples of a batch are in the outputs of operations.

    Multiplying the gradient of each sample by a number of its own multiplies just the
    rows of that sample everywhere in the network: two backward passes show which.

    Raises:
        UsageError: rows that belong to no single sample.
    """
    names = {use.operation: use.name for use in uses}
    source = torch.Generator().manual_seed(0)
    seed = torch.randn(z.shape, generator=source, dtype=torch.float64, device="cpu").to(
        z
    )
    marks = (
        1 + torch.rand(len(z), generator=source, dtype=torch.float64, device="cpu")
    ).to(z)
    marked = seed * marks.view(-1, *[1] * (z.dim() - 1))
    # Where layers mix samples, as batch norm in training does, no layout explains the
    # second pass, and the parameter is refused instead of given wrong gradients.
    before = gradients_at(z, list(names), seed)
    after = gradients_at(z, list(names), marked)
    # Where the network casts between layers, all are as exact as the coarsest of them.
    dtypes = {t.dtype for t in (z, *before) if t is not None}
    share = max(torch.finfo(dtype).eps for dtype in dtypes) ** 0.5
    return {
        node: _layout(node, name, one, other, marks, share)
        for (node, name), one, other in zip(names.items(), before, after, strict=True)
        if one is not None and other is not None
    }


def _layout(
    node: Node, name: str, before: Tensor, after: Tensor, marks: Tensor, share: float
) -> Layout:
    near = share * float(after.abs().max())
    for layout in layouts(before.shape, len(marks)):
        one, other = layout.samples_first(before), layout.samples_first(after)
        expected = one * marks.view(-1, *[1] * (one.dim() - 1))
        if float((other - expected).abs().max()) <= near:
            return layout
    if node.name().startswith("ToCopy"):
        raise UsageError(
            f"the parameter {name} must enter its operation in its own dtype, but the "
            "network casts it first; cast the network itself, as with .to(), and its "
            "inputs where they enter."
        )
    raise UsageError(
        f"the parameter {name} must act on each sample of a batch on its own, but its "
        f"operation mixes samples or serves several at once; {ALTERNATIVE}."
    )


def gradients_of(
    use: Use, layout: Layout, parameter: Tensor, columns: int, room: CacheBudget
) -> AbstractGradients:
    """Rule for the gradients of single samples by one use of a parameter.

    Args:
        use: of the parameter; kind "folded" is the effective weight of a batch norm.
        layout: of the samples in the outputs of the operation.
        parameter: itself.
        columns: backward passes to come.
        room: what may be kept between them.

    Raises:
        UsageError: no rule for this use.
    """
    node = use.operation
    shape = tuple(parameter.shape)
    # These rules take the rows of a sample from what torch saved for the backward
    # pass, where samples are along the first axis.
    rows = layout.axis == 0 or layout.samples == 1
    if use.kind == "linear" and rows:
        return Linear(use, layout, _rows(node), shape, columns, room)
    if use.kind == "convolution" and rows:
        rule = (
            TransposedConvolution
            if convolution_settings(node).transposed
            else Convolution
        )
        return rule(use, layout, layer_input(node), shape, columns, room)
    if use.kind == "embedding" and not scales_by_frequency(node):
        return Gathered(use, layout, parameter)
    if use.kind in _FACTORS:
        aligned, factor = _FACTORS[use.kind](use)
        # A parameter that has entries along the axis of the samples is not shared by
        # them, and its gradient is no sum over samples.
        padded = (1,) * (len(output_shape(node)) - len(aligned)) + aligned
        if padded[layout.axis] == 1 or layout.samples == 1:
            return Reduced(use, layout, padded, shape, factor)
    raise UsageError(
        f"there is no rule for the parameter {use.name} in the operation "
        f"{operation(node)} as it is used here; {ALTERNATIVE}."
    )


def folded(use: Use) -> Use:
    """The use of the effective weight or bias of a batch norm in evaluation mode.

    Where weight w, bias b, mean m and deviation s make w (x - m) / s + b, these are
    w / s and b - w m / s.
    """
    is_weight = use.kind == "batch_norm" and use.slot == 1
    return dataclasses.replace(use, kind="folded") if is_weight else use


def _rows(node: Node) -> Tensor:
    """Rows that a weight is multiplied with."""
    if operation(node) != "Addmm":
        return operand(node, 0)
    rows, factor = first_matrix(node), product_factor(node)
    return rows if factor == 1 else rows * factor


def _added(use: Use) -> tuple[Shape, float]:
    node = use.operation
    name = operation(node)
    if name == "Addmm":
        return use.shape, bias_factor(node)
    if name == "Expand" or (use.slot == 0 and name != "Rsub"):
        return use.shape, 1.0
    factor = product_factor(node)
    return use.shape, factor if name == "Add" else -factor


def _multiplied(use: Use) -> tuple[Shape, Tensor]:
    node = use.operation
    return use.shape, operand(node, 0 if use.slot else 1)


def _per_channel(use: Use) -> tuple[Shape, float]:
    shape = output_shape(use.operation)
    return (1, shape[1], *[1] * (len(shape) - 2)), 1.0


def _normalized(use: Use) -> tuple[Shape, Tensor | float]:
    """Of a layer norm or group norm, with the statistics of the sample itself."""
    node = use.operation
    layer = operation(node) == "NativeLayerNorm"
    shape = use.shape if layer else _per_channel(use)[0]
    if use.slot != 1:
        return shape, 1.0
    x, (mean, scale) = layer_input(node), sample_statistics(node)
    if layer:
        return shape, (x - mean) * scale
    groups = x.reshape(*mean.shape, -1)
    whitened = (groups - mean.unsqueeze(-1)) * scale.unsqueeze(-1)
    return shape, whitened.view(x.shape)


def shift(node: Node) -> Tensor:
    """Mean over deviation of the statistics of a batch norm."""
    statistics = running_statistics(node)
    return statistics.mean * statistics.inverse_deviation


def _whitened(use: Use) -> tuple[Shape, Tensor | float]:
    """Of a batch norm with given statistics."""
    node = use.operation
    shape, _ = _per_channel(use)
    if use.slot != 1:
        return shape, 1.0
    statistics = running_statistics(node)
    mean, scale = statistics.mean.view(shape), statistics.inverse_deviation.view(shape)
    return shape, (layer_input(node) - mean) * scale


def _inputs(use: Use) -> tuple[Shape, Tensor]:
    node = use.operation
    return _per_channel(use)[0], layer_input(node)


def _negative(use: Use) -> tuple[Shape, Tensor]:
    node = use.operation
    return use.shape, operand(node, 0).clamp(max=0)


# What a parameter that is broadcast is aligned with, and what multiplies its gradient.
_FACTORS: dict[str, Callable[[Use], tuple[Shape, Tensor | float]]] = {
    "add": _added,
    "multiply": _multiplied,
    "channels": _per_channel,
    "normalization": _normalized,
    "batch_norm": _whitened,
    "folded": _inputs,
    "slope": _negative,
}
